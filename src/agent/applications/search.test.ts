import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { createInventory } from '../../access/mesh/inventory.js';
import { compilePolicySet } from '../../access/policy/policy-set.js';
import { silentLogger } from '../../lib/logger.js';
import { systemRandom } from '../../lib/random.js';
import type { HttpCall } from '../../rpc/http/route.js';
import { createAuthorization } from '../authorization/decide.js';
import type { CallParts } from '../session.js';
import { searchSubject, type SearchParts } from './search.js';

const uri = (index: number): string => `spiffe://td/ns/a/sa/w${String(index).padStart(5, '0')}`;

/** So many workloads, of which those may write that `may` says. */
function worldOf(count: number, may: (index: number) => boolean): SearchParts {
  const workloads = Array.from({ length: count }, (_, index) => ({
    ...{ namespace: 'a', name: `w${index}`, serviceAccount: `w${index}`, labels: {}, namespaceLabels: {} },
    ...{ spiffeIds: [uri(index)], ports: [] },
  }));
  const inventory = createInventory({ trustDomain: 'td', namespaces: [], workloads });
  const [target] = workloads;
  const spiffeIDs = workloads.map(({ spiffeIds: [id = ''] }) => id).filter((_, index) => may(index));
  const rule = { name: 'r', from: [{ spiffeIDs }], to: [{ actions: ['write'] }] };
  const policies = compilePolicySet(
    [
      {
        kind: 'AccessPolicy',
        metadata: { namespace: 'a', name: 'p' },
        spec: { target: { podSelector: {} }, rules: [rule] },
      },
    ],
    { trustDomain: 'td', identity: () => undefined, namespaces: () => [] },
  );
  const clock = new FakeClock();
  const current = { policies, inventory, pod: () => target, target: () => target, source: () => undefined };
  const authorization = createAuthorization({
    ...{ views: { current }, clock, random: systemRandom, logger: silentLogger },
    tokens: { validateCached: () => undefined, validate: () => Promise.reject(new Error('no token came')) },
    knowsTrustDomain: (name) => name === 'td',
    calls: {} as CallParts,
  });
  return { authorization, clock };
}

interface Found {
  readonly page?: { readonly next_token: string };
  readonly results: readonly { readonly id: string }[];
}

function callOf(page: object | undefined, signal = new AbortController().signal): HttpCall {
  return {
    ...{ segments: [], query: new URLSearchParams(), host: 'a', secure: false },
    context: {
      peer: { listener: 'pod/u', connectionId: 'c' },
      ...{ signal, requestId: 'r1', metadata: () => undefined },
    },
    body: {
      ...{ subject: { type: 'workload' }, action: { name: 'write' }, resource: { type: 'x', id: '1' } },
      ...(page === undefined ? {} : { page }),
    },
  };
}

const find = async (parts: SearchParts, page?: object): Promise<Found> =>
  (await searchSubject(parts, callOf(page))).body as Found;

/** Follows the pages from the first to the last. */
async function findAll(parts: SearchParts, limit?: number): Promise<readonly Found[]> {
  const pages = [await find(parts, limit === undefined ? undefined : { limit })];
  for (let token = pages[0]?.page?.next_token ?? ''; token !== '';) {
    const next = await find(parts, { token });
    pages.push(next);
    token = next.page?.next_token ?? '';
  }
  return pages;
}

describe('a search over very many', () => {
  it('decides a bounded number of candidates a request, and goes on where it ended', async () => {
    // Only the last one may: the pages before are empty, and say that more follow.
    const pages = await findAll(worldOf(4500, (index) => index === 4499));
    expect(pages.map(({ results }) => results.length)).toEqual([0, 0, 1]);
    expect(pages[2]?.results[0]?.id).toBe(uri(4499));
  });

  it('gives each result once, whatever the size of a page', async () => {
    const parts = worldOf(1203, (index) => index % 2 === 0);
    for (const limit of [undefined, 1000, 100, 7]) {
      const pages = await findAll(parts, limit);
      const ids = pages.flatMap(({ results }) => results.map(({ id }) => id));
      expect(ids).toEqual(Array.from({ length: 602 }, (_, index) => uri(2 * index)));
      expect(pages).toHaveLength(Math.ceil(602 / (limit ?? 1000)));
    }
  });

  it('lets others run meanwhile, and ends when its client has gone', async () => {
    const gone = new AbortController();
    const parts = worldOf(1500, () => true);
    const found = searchSubject(parts, callOf(undefined, gone.signal));
    let turns = 0;
    const tick = (): void => {
      if (++turns === 3) gone.abort(new Error('gone'));
      else setImmediate(tick);
    };
    setImmediate(tick);
    await expect(found).rejects.toThrow('gone');
    expect(turns).toBe(3);
  });
});
