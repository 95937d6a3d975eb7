import { afterEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { ClientHttp2Session, IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { connect as connectHttp2, constants, createServer as createHttp2Server } from 'node:http2';
import type { Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AuthorityFilter } from './filter.js';
import { Flag, FrameType, PREFACE, encodeFrame, readFrameHeader } from './frames.js';
import { HeaderBlockError, HpackDecoder, encodeBlock } from './hpack.js';
import { decodeHuffman } from './huffman.js';
import { isLegalAuthority } from './legal.js';
import { findSettingsAck, sniff } from './sniff.js';

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signet-h2-'));
  closers.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

const field = (name: string, value: string, neverIndexed = false) => ({ name, value, neverIndexed });
const request = (authority: string | undefined) => [
  field(':method', 'POST'),
  field(':scheme', 'http'),
  field(':path', '/S/M'),
  ...(authority === undefined ? [] : [field(':authority', authority)]),
  field('te', 'trailers'),
];
const settings = encodeFrame({ type: FrameType.settings, flags: 0, stream: 0 }, Buffer.alloc(0));
const headers = (block: Buffer, stream = 1, flags: number = Flag.endHeaders | Flag.endStream) =>
  encodeFrame({ type: FrameType.headers, flags, stream }, block);

/** A real HTTP/2 server that says what headers it got. Returns its socket path. */
async function echoServer(): Promise<{ path: string; seen: IncomingHttpHeaders[] }> {
  const path = join(await temporaryDirectory(), 'echo.sock');
  const seen: IncomingHttpHeaders[] = [];
  const server = createHttp2Server({
    settings: { maxHeaderListSize: 200_000 },
    maxSessionInvalidFrames: 10_000,
  });
  server.on('stream', (stream, got) => {
    seen.push(got);
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.end('ok');
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  closers.push(() => void server.close());
  return { path, seen };
}

/** A relay in front of a server that puts the filter in the way, with the client's bytes cut by `cut`. */
async function relay(
  target: string,
  cut: (chunk: Buffer) => Buffer[],
): Promise<{ path: string; sent: Buffer[] }> {
  const path = join(await temporaryDirectory(), 'relay.sock');
  const sent: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const filter = new AuthorityFilter();
    const upstream = connect(target);
    for (const end of [socket, upstream]) {
      sockets.add(end);
      end.on('error', () => undefined);
    }
    socket.on('data', (chunk: Buffer) => {
      sent.push(chunk);
      for (const piece of cut(chunk)) for (const out of filter.push(piece)) upstream.write(out);
    });
    upstream.pipe(socket);
    socket.on('close', () => upstream.destroy());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { path, sent };
}

function client(path: string, options: { paddingStrategy?: number } = {}): ClientHttp2Session {
  const session = connectHttp2('http://localhost', { ...options, createConnection: () => connect(path) });
  session.on('error', () => undefined);
  closers.push(() => session.destroy());
  return session;
}

/** True when the call was answered, false when it was reset. */
function call(session: ClientHttp2Session, sent: OutgoingHttpHeaders): Promise<boolean> {
  return new Promise((resolve) => {
    const stream = session.request({ ':method': 'POST', ':path': '/S/M', ...sent });
    let answered = false;
    stream.on('response', () => (answered = true));
    stream.on('error', () => undefined);
    stream.on('close', () => resolve(answered));
    stream.resume();
    stream.end('body');
  });
}

/** Cuts bytes at every multiple of `size`. */
function pieces(bytes: Buffer, size: number): Buffer[] {
  const all: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) all.push(bytes.subarray(at, at + size));
  return all;
}

function filtered(chunks: readonly Buffer[]): Buffer {
  const filter = new AuthorityFilter();
  return Buffer.concat(chunks.flatMap((chunk) => filter.push(chunk)));
}

/** What a well-formed stream of frames says: each header block decoded, every other frame as it is. */
function readStream(bytes: Buffer): unknown[] {
  const decoder = new HpackDecoder(1_000_000);
  const said: unknown[] = [];
  let block: Buffer[] = [];
  for (let at = PREFACE.length; at < bytes.length;) {
    const { length, type, flags, stream } = readFrameHeader(bytes, at);
    const payload = bytes.subarray(at + 9, at + 9 + length);
    at += 9 + length;
    if (type === FrameType.headers || type === FrameType.continuation) {
      block.push(payload);
      if ((flags & Flag.endHeaders) === 0) continue;
      said.push({ stream, fields: decoder.decode(Buffer.concat(block)) });
      block = [];
    } else said.push({ type, flags, stream, payload: payload.toString('hex') });
  }
  return said;
}

describe('isLegalAuthority', () => {
  it('agrees with Node’s own HTTP/2 server on every byte', async () => {
    const { path } = await echoServer();
    const socket = connect(path);
    closers.push(() => void socket.destroy());
    const bytes = Array.from({ length: 256 }, (_, byte) => byte);
    const outcome = new Map<number, boolean>();
    const done = new Promise<void>((resolve) => {
      let rest: Buffer = Buffer.alloc(0);
      socket.on('data', (chunk: Buffer) => {
        rest = Buffer.concat([rest, chunk]);
        while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
          const { length, type, stream } = readFrameHeader(rest, 0);
          if (type === FrameType.headers) outcome.set((stream - 1) / 2, true);
          else if (type === 3 && !outcome.has((stream - 1) / 2)) outcome.set((stream - 1) / 2, false);
          rest = rest.subarray(9 + length);
        }
        if (outcome.size === 256) resolve();
      });
    });
    const calls = bytes.map((byte) => headers(encodeBlock(request(String.fromCharCode(byte))), byte * 2 + 1));
    // Some at a time, as the server allows only so many open calls.
    socket.write(Buffer.concat([PREFACE, settings]));
    for (const frame of calls) socket.write(frame);
    await done;
    const legal = bytes.filter((byte) => isLegalAuthority(String.fromCharCode(byte)));
    expect(legal).toEqual(bytes.filter((byte) => outcome.get(byte) === true));
    expect(legal.length).toBeGreaterThan(70);
    expect(isLegalAuthority('')).toBe(false);
  });
});

describe('the filter', () => {
  it('makes Node take calls with a socket path, an empty and no authority, and leaves all else as it was', async () => {
    const { path, seen } = await echoServer();
    const behind = await relay(path, (chunk) => [chunk]);
    const session = client(behind.path);
    expect(await call(client(path), { ':authority': '/run/api.sock' })).toBe(false);
    for (const authority of ['/run/api.sock', 'unix:/run/api.sock', '/run/api.sock', 'good.example:80'])
      expect(await call(session, { ':authority': authority, 'x-a': authority, te: 'trailers' })).toBe(true);
    expect(seen.map((got) => [got[':authority'], got['x-a'], got['te']])).toEqual([
      ['localhost', '/run/api.sock', 'trailers'],
      ['localhost', 'unix:/run/api.sock', 'trailers'],
      ['localhost', '/run/api.sock', 'trailers'],
      ['good.example:80', 'good.example:80', 'trailers'],
    ]);
  });

  it('carries whatever headers a real client sends, however its bytes are cut', async () => {
    const { path, seen } = await echoServer();
    const text = fc.string({ unit: fc.constantFrom(...'abcXYZ019 /%~{}^"é'.split('')), maxLength: 60 });
    const call1 = fc.dictionary(
      fc.stringMatching(/^x-[a-z]{1,3}$/),
      text.map((value) => value.trim()),
      {
        maxKeys: 5,
      },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(call1, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 40 }),
        fc.constantFrom(constants.PADDING_STRATEGY_NONE, constants.PADDING_STRATEGY_MAX),
        async (calls, size, paddingStrategy) => {
          seen.length = 0;
          const behind = await relay(path, (chunk) => pieces(chunk, size));
          const session = client(behind.path, { paddingStrategy });
          for (const [index, sent] of calls.entries())
            expect(await call(session, { ...sent, ':authority': index % 2 === 0 ? '/a/b' : 'host' })).toBe(
              true,
            );
          session.destroy();
          expect(seen.map((got) => Object.fromEntries(Object.entries(got)))).toEqual(
            calls.map((sent, index) => ({
              ...sent,
              ':authority': index % 2 === 0 ? 'localhost' : 'host',
              ':method': 'POST',
              ':path': '/S/M',
              ':scheme': 'http',
            })),
          );
          const all = Buffer.concat(behind.sent);
          expect(filtered(pieces(all, size)).equals(filtered([all]))).toBe(true);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('takes blocks in CONTINUATION frames, with padding and priority, and writes such', async () => {
    const { path, seen } = await echoServer();
    const behind = await relay(path, (chunk) => pieces(chunk, 1000));
    const long = 'z'.repeat(40_000);
    expect(await call(client(behind.path), { ':authority': '/a', 'x-long': long })).toBe(true);
    expect(seen[0]?.['x-long']).toBe(long);

    const block = encodeBlock(request('/a'));
    const padded = Buffer.concat([
      Buffer.from([3]),
      Buffer.from([0, 0, 0, 0, 15]),
      block.subarray(0, 10),
      Buffer.alloc(3),
    ]);
    const frames = [
      PREFACE,
      settings,
      headers(padded, 1, Flag.padded | Flag.priority | Flag.endStream),
      encodeFrame({ type: FrameType.continuation, flags: 0, stream: 1 }, Buffer.alloc(0)),
      encodeFrame({ type: FrameType.continuation, flags: Flag.endHeaders, stream: 1 }, block.subarray(10)),
    ];
    const out = filtered([Buffer.concat(frames)]);
    expect(readStream(out)).toContainEqual({ stream: 1, fields: request('localhost') });
    expect(readFrameHeader(out, PREFACE.length + 9).flags).toBe(Flag.endHeaders | Flag.endStream);
  });

  it('adds an authority to a call that has none, and nothing to trailers', () => {
    const frames = [
      PREFACE,
      headers(encodeBlock(request(undefined))),
      headers(encodeBlock([field('x', 'y', true)])),
    ];
    expect(readStream(filtered([Buffer.concat(frames)]))).toEqual([
      { stream: 1, fields: [field(':authority', 'localhost'), ...request(undefined)] },
      { stream: 1, fields: [field('x', 'y', true)] },
    ]);
  });

  it('reads an authority out of the tables and out of Huffman code', () => {
    const blocks = [
      // incremental literal "/a" in plain bytes, then the same field by index
      [0x83, 0x86, 0x84, 0x41, 0x02, 0x2f, 0x61],
      [0x83, 0x86, 0x84, 0xbe],
      // Huffman: '/' = 011000, 'a' = 00011, padding 11111
      [0x83, 0x86, 0x84, 0x41, 0x82, 0b01100000, 0b01111111],
      // the empty authority of the static table
      [0x83, 0x86, 0x84, 0x81],
      // a table size update first
      [0x20, 0x3f, 0xe1, 0x1f, 0x83, 0x86, 0x84, 0x41, 0x01, 0x2f],
    ];
    const frames = blocks.map((block, index) => headers(Buffer.from(block), index * 2 + 1));
    const said = readStream(filtered([Buffer.concat([PREFACE, ...frames])]));
    const fields = [
      field(':method', 'POST'),
      field(':scheme', 'http'),
      field(':path', '/'),
      field(':authority', 'localhost'),
    ];
    expect(said).toEqual(blocks.map((_, index) => ({ stream: index * 2 + 1, fields })));
  });

  it.each([
    ['no HTTP/2', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
    [
      'a frame that is too large',
      Buffer.concat([PREFACE, Buffer.from([0x00, 0x40, 0x01, 0, 0, 0, 0, 0, 1])]),
    ],
    [
      'a CONTINUATION out of nothing',
      Buffer.concat([PREFACE, encodeFrame({ type: 9, flags: 4, stream: 1 }, Buffer.alloc(0))]),
    ],
    ['a frame inside a block', Buffer.concat([PREFACE, headers(Buffer.alloc(0), 1, 0), settings])],
    [
      'a block that goes on in another stream',
      Buffer.concat([
        PREFACE,
        headers(Buffer.alloc(0), 1, 0),
        encodeFrame({ type: 9, flags: 4, stream: 3 }, Buffer.alloc(0)),
      ]),
    ],
    [
      'padding larger than its frame',
      Buffer.concat([PREFACE, headers(Buffer.from([9, 0x83]), 1, Flag.padded | Flag.endHeaders)]),
    ],
    ['a field that no table has', Buffer.concat([PREFACE, headers(Buffer.from([0xff, 0x20]))])],
    ['the index zero', Buffer.concat([PREFACE, headers(Buffer.from([0x80]))])],
    ['a string that is cut off', Buffer.concat([PREFACE, headers(Buffer.from([0x41, 0x05, 0x61]))])],
    [
      'a number without end',
      Buffer.concat([PREFACE, headers(Buffer.from([0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]))]),
    ],
    [
      'a Huffman code with wrong padding',
      Buffer.concat([PREFACE, headers(Buffer.from([0x41, 0x81, 0b01100000]))]),
    ],
    ['a table larger than allowed', Buffer.concat([PREFACE, headers(Buffer.from([0x3f, 0xff, 0x7f]))])],
    ['a table size update in the middle', Buffer.concat([PREFACE, headers(Buffer.from([0x83, 0x20]))])],
  ])('refuses %s', (_what, bytes) => {
    expect(() => filtered([bytes])).toThrow(HeaderBlockError);
    expect(() => filtered(pieces(bytes, 1))).toThrow(HeaderBlockError);
  });

  it('bounds what a block may become, however little is sent for it', () => {
    // One literal of 4,000 bytes in the table, then 200 references of one byte each.
    const literal = Buffer.concat([
      Buffer.from([0x40, 0x01, 0x61, 0x7f, 0xa1, 0x1e]),
      Buffer.alloc(4000, 0x62),
    ]);
    const bomb = Buffer.concat([literal, Buffer.alloc(200, 0xbe)]);
    expect(() => filtered([PREFACE, headers(bomb)])).toThrow(/larger than 65536/);
    const flood = Array.from({ length: 40 }, () =>
      encodeFrame({ type: 9, flags: 0, stream: 1 }, Buffer.alloc(0)),
    );
    expect(() => filtered([PREFACE, headers(Buffer.alloc(0), 1, 0), ...flood])).toThrow(HeaderBlockError);
  });

  it('never fails in another way, whatever comes', () => {
    const frame = fc
      .record({
        type: fc.constantFrom(0, 1, 1, 1, 2, 4, 8, 9, 77),
        flags: fc.constantFrom(0, 4, 5, 8, 0x2c, 255),
        stream: fc.integer({ min: 0, max: 5 }),
        payload: fc.uint8Array({ maxLength: 60 }),
      })
      .map(({ payload, ...frame }) => encodeFrame(frame, Buffer.from(payload)));
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 8 }),
        fc.uint8Array({ maxLength: 30 }),
        fc.integer({ min: 1, max: 30 }),
        (frames, tail, size) => {
          const bytes = Buffer.concat([PREFACE, ...frames, tail]);
          sniff(bytes);
          findSettingsAck(bytes);
          let whole: Buffer | undefined;
          try {
            whole = filtered([bytes]);
          } catch (error) {
            expect(error).toBeInstanceOf(HeaderBlockError);
          }
          if (whole === undefined) expect(() => filtered(pieces(bytes, size))).toThrow(HeaderBlockError);
          else expect(filtered(pieces(bytes, size)).equals(whole)).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('decodeHuffman', () => {
  it('reads the examples of RFC 7541 appendix C.4 and C.6', () => {
    const read = (hex: string) => decodeHuffman(Buffer.from(hex, 'hex'));
    expect(read('f1e3c2e5f23a6ba0ab90f4ff')).toBe('www.example.com');
    expect(read('25a849e95ba97d7f')).toBe('custom-key');
    expect(read('25a849e95bb8e8b4bf')).toBe('custom-value');
    expect(read('d07abe941054d444a8200595040b8166e082a62d1bff')).toBe('Mon, 21 Oct 2013 20:13:21 GMT');
    expect(read('')).toBe('');
    expect(read('ff')).toBeUndefined(); // eight bits of padding
    expect(read('ffffffff')).toBeUndefined(); // the end of the string
  });
});

describe('sniff', () => {
  const first = (authority: string | undefined) => headers(encodeBlock(request(authority)));

  it.each([
    ['nothing', Buffer.alloc(0), 'more'],
    ['a part of the preface', PREFACE.subarray(0, 7), 'more'],
    ['the preface alone', PREFACE, 'more'],
    ['settings cut off', Buffer.concat([PREFACE, settings.subarray(0, 5)]), 'more'],
    ['settings, and then silence', Buffer.concat([PREFACE, settings]), 'waiting'],
    ['HTTP/1.1', Buffer.from('GET / HTTP'), 'plain'],
    ['a legal call', Buffer.concat([PREFACE, settings, first('localhost')]), 'plain'],
    ['half a call', Buffer.concat([PREFACE, settings, first('localhost').subarray(0, 20)]), 'more'],
    ['a socket path', Buffer.concat([PREFACE, settings, first('/a/b')]), 'rewrite'],
    ['an empty authority', Buffer.concat([PREFACE, settings, first('')]), 'rewrite'],
    ['no authority', Buffer.concat([PREFACE, settings, first(undefined)]), 'rewrite'],
    ['a block in pieces', Buffer.concat([PREFACE, settings, headers(Buffer.from([0x83]), 1, 0)]), 'rewrite'],
    [
      'a PING first',
      Buffer.concat([PREFACE, settings, encodeFrame({ type: 6, flags: 0, stream: 0 }, Buffer.alloc(8))]),
      'rewrite',
    ],
    [
      'an acknowledgement',
      Buffer.concat([
        PREFACE,
        settings,
        encodeFrame({ type: 4, flags: 1, stream: 0 }, Buffer.alloc(0)),
        first('a'),
      ]),
      'plain',
    ],
  ])('says of %s what to do', (_what, bytes, verdict) => {
    expect(sniff(bytes)).toBe(verdict);
  });

  it('finds the first acknowledgement wherever it stands', () => {
    const ack = encodeFrame({ type: 4, flags: 1, stream: 0 }, Buffer.alloc(0));
    const call = first('localhost');
    expect(findSettingsAck(Buffer.concat([PREFACE, settings, call]))).toBeUndefined();
    expect(findSettingsAck(Buffer.concat([PREFACE, settings, ack, call, ack]))).toBe(33);
    expect(findSettingsAck(Buffer.concat([PREFACE, settings, call, ack]))).toBe(33 + call.length);
    expect(findSettingsAck(Buffer.concat([PREFACE, settings, call, ack.subarray(0, 8)]))).toBeUndefined();
  });
});
