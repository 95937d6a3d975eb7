import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { podRegistration } from '../../../test/support/fake-node-api.js';
import type { Registration } from '../../identity/registration/registration.js';
import type { SyncUpdate as Message } from '../../rpc/gen/signet/node/v1/node.js';
import type { SyncUpdate } from '../../rpc/node-api.js';
import { differences } from './differences.js';

const registration = (name: string, revision: string): Registration =>
  podRegistration(name, { id: name, revision });
const updatesOf = async function* (updates: readonly SyncUpdate[]): AsyncIterable<SyncUpdate> {
  for (const update of updates) {
    await Promise.resolve();
    yield update;
  }
};
const sentFor = async (
  held: ReadonlyMap<string, string>,
  updates: readonly SyncUpdate[],
): Promise<readonly Message[]> => {
  const parts: Message[] = [];
  const named = [...held].map(([id, revision]) => ({ id, revision, svidNotBefore: 0, svidNotAfter: 0 }));
  for await (const part of differences(named, updatesOf(updates))) parts.push(part);
  return parts;
};
/** What an agent has after these parts, and its state each time that an update was whole. */
const applied = (
  held: ReadonlyMap<string, string>,
  parts: readonly Message[],
): readonly ReadonlyMap<string, string>[] => {
  const states: ReadonlyMap<string, string>[] = [];
  const state = new Map(held);
  let removed: string[] = [];
  let upserts: Message['upserts'] = [];
  for (const part of parts) {
    removed = [...removed, ...part.removed];
    upserts = [...upserts, ...part.upserts];
    if (part.more) continue;
    for (const id of removed) state.delete(id);
    for (const { id, revision } of upserts) state.set(id, revision);
    states.push(new Map(state));
    removed = [];
    upserts = [];
  }
  return states;
};

const NAMES = ['a', 'b', 'c', 'd', 'e'];
const state = fc.dictionary(fc.constantFrom(...NAMES), fc.constantFrom('1', '2', '3'));
/** Updates of a server whose state changes at random: a snapshot first, others where it says so. */
const histories = fc.array(fc.record({ to: state, snapshot: fc.boolean() }), { minLength: 1, maxLength: 8 });

function serverUpdates(history: readonly { to: Record<string, string>; snapshot: boolean }[]): SyncUpdate[] {
  let before: Record<string, string> = {};
  return history.map(({ to, snapshot }, index) => {
    const present = Object.entries(to);
    const whole = snapshot || index === 0;
    const update: SyncUpdate = whole
      ? { snapshot: true, upserts: present.map(([id, revision]) => registration(id, revision)), removed: [] }
      : {
          snapshot: false,
          upserts: present
            .filter(([id, revision]) => before[id] !== revision)
            .map(([id, revision]) => registration(id, revision)),
          removed: Object.keys(before).filter((id) => to[id] === undefined),
        };
    before = to;
    return update;
  });
}

describe('differences', () => {
  it('bring an agent to the state of each update, whatever it held before', async () => {
    await fc.assert(
      fc.asyncProperty(state, histories, async (heldState, history) => {
        const held = new Map(Object.entries(heldState));
        const states = applied(held, await sentFor(held, serverUpdates(history)));
        expect(states.map((one) => Object.fromEntries(one))).toEqual(history.map(({ to }) => to));
      }),
      { numRuns: 500 },
    );
  });

  it('name nothing that the agent has already', async () => {
    await fc.assert(
      fc.asyncProperty(state, state, async (heldState, now) => {
        const held = new Map(Object.entries(heldState));
        const [first] = await sentFor(held, serverUpdates([{ to: now, snapshot: true }]));
        for (const { id, revision } of first?.upserts ?? []) expect(held.get(id)).not.toBe(revision);
        for (const id of first?.removed ?? []) expect(held.has(id)).toBe(true);
      }),
    );
  });

  it('say that nothing differs, in one empty message', async () => {
    const held = new Map([['a', '1']]);
    const parts = await sentFor(held, [{ snapshot: true, upserts: [registration('a', '1')], removed: [] }]);
    expect(parts).toEqual([{ upserts: [], removed: [], more: false }]);
  });

  it('keep what went and came again in one update', async () => {
    const held = new Map([['a', '1']]);
    const parts = await sentFor(held, [
      { snapshot: true, upserts: [registration('a', '1')], removed: [] },
      { snapshot: false, upserts: [registration('a', '1')], removed: ['a'] },
    ]);
    expect(Object.fromEntries(applied(held, parts)[1] ?? [])).toEqual({ a: '1' });
  });

  it('come in parts that are small enough, the last of them marked', async () => {
    const upserts = Array.from({ length: 2_500 }, (_, at) => registration(`pod-${at}`, '1'));
    const held = new Map([['gone', '1']]);
    const parts = await sentFor(held, [{ snapshot: true, upserts, removed: [] }]);
    expect(parts.map(({ upserts: some, removed, more }) => [some.length, removed, more])).toEqual([
      [1_000, ['gone'], true],
      [1_000, [], true],
      [500, [], false],
    ]);
    const exact = await sentFor(new Map(), [
      { snapshot: true, upserts: upserts.slice(0, 1_000), removed: [] },
    ]);
    expect(exact.map(({ more }) => more)).toEqual([false]);
  });
});
