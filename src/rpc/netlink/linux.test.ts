import { describe, expect, it } from '@jest/globals';
import { captureRules } from './capture-rules.js';
import { captureWith, type NetlinkCalls } from './linux.js';

const capture = { redirects: [{ port: 8080, listener: 15630 }], closed: [9000] };
const rules = captureRules(capture).length;

/** A kernel that answers messages so; undefined: with silence. */
function kernel(
  answerOf: (sequence: number) => number | undefined,
  more: Partial<NetlinkCalls> = {},
): NetlinkCalls & { readonly open: () => number } {
  const queue: Buffer[] = [];
  let open = 0;
  return {
    open: () => open,
    socket: () => {
      open += 1;
      return 7;
    },
    send(_, bytes) {
      for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at)) {
        const sequence = bytes.readUInt32LE(at + 8);
        const error = sequence === 0 || sequence > rules ? undefined : answerOf(sequence);
        if (error === undefined) continue;
        const answer = Buffer.alloc(36);
        answer.writeUInt32LE(36, 0);
        answer.writeUInt16LE(2, 4);
        answer.writeUInt32LE(sequence, 8);
        answer.writeInt32LE(-error, 16);
        queue.push(answer);
      }
      return bytes.length;
    },
    recv: (_, bytes) => queue.shift()?.copy(bytes) ?? -1,
    close: () => {
      open -= 1;
      return 0;
    },
    errno: () => 93,
    errnoName: (value) =>
      new Map([
        [1, 'EPERM'],
        [2, 'ENOENT'],
        [12, 'ENOMEM'],
        [93, 'EPROTONOSUPPORT'],
      ]).get(value) ?? '?',
    ...more,
  };
}

describe('a capture', () => {
  it('is in place when the kernel has taken each rule', () => {
    const calls = kernel(() => 0);
    captureWith(calls, capture);
    expect(calls.open()).toBe(0);
  });

  it.each<[string, NetlinkCalls & { open: () => number }, string, RegExp]>([
    ['may not be made', kernel(() => 1), 'CaptureFailed', /EPERM: it takes the capability NET_ADMIN/],
    [
      'needs what the kernel lacks',
      kernel(() => 2),
      'CaptureUnsupported',
      /ENOENT: the node's kernel needs nf_tables/,
    ],
    [
      'has a rule that is not taken',
      kernel((sequence) => (sequence === 5 ? 12 : 0)),
      'CaptureFailed',
      /ENOMEM/,
    ],
    ['is met with silence', kernel(() => undefined), 'CaptureFailed', /did not say/],
    [
      'is not answered in full',
      kernel((sequence) => (sequence === rules ? undefined : 0)),
      'CaptureFailed',
      /did not say/,
    ],
    ['is sent in part', kernel(() => 0, { send: () => 8 }), 'CaptureUnsupported', /cannot be handed/],
  ])('fails when it %s, and leaves no socket open', (_, calls, code, message) => {
    expect(() => captureWith(calls, capture)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
    expect(calls.open()).toBe(0);
  });

  it('fails where the kernel has no such socket', () => {
    expect(() =>
      captureWith(
        kernel(() => 0, { socket: () => -1 }),
        capture,
      ),
    ).toThrow(/cannot speak to the packet filter .*EPROTONOSUPPORT/);
  });
});
