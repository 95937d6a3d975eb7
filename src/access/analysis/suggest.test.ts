import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { createInventory, type InventoryWorkload } from '../mesh/inventory.js';
import { evaluate } from '../policy/evaluate.js';
import type { AccessRequest } from '../policy/model.js';
import { normalisePath } from '../policy/path.js';
import { compilePolicySet } from '../policy/policy-set.js';
import { parseObservation, type Observation } from './observations.js';
import { suggestPolicies } from './suggest.js';

const workload = (namespace: string, name: string, app: string): InventoryWorkload => ({
  namespace,
  name,
  serviceAccount: name,
  labels: { app, team: 'one' },
  namespaceLabels: {},
  spiffeIds: [`spiffe://td/ns/${namespace}/sa/${name}`],
  ports: [{ port: 80, protocol: 'http' }],
});
const inventory = createInventory({
  trustDomain: 'td',
  namespaces: [{ name: 'a', labels: {} }],
  workloads: [workload('a', 'one', 'x'), workload('a', 'two', 'y'), workload('a', 'three', 'y')],
});

const SOURCES = ['spiffe://td/ns/a/sa/one', 'spiffe://td/ns/a/sa/two', 'spiffe://other/x'];
const PATHS = ['/', '/a', '/a/', '/a/1', '/a/2', '/a/3', '/a/x', '/b?x=1'];
const observation: fc.Arbitrary<Observation> = fc
  .record({
    source: fc.constantFrom(...SOURCES),
    target: fc.constantFrom('a/one', 'a/two'),
    port: fc.constantFrom(80, 81),
    method: fc.constantFrom('GET', 'POST'),
    path: fc.constantFrom(...PATHS),
  })
  .map(({ method, path, ...rest }) => ({ ...rest, http: { method, path } }));

function requestOf({ source, target, port, http }: Observation): AccessRequest {
  const found = inventory.workloads.find(({ namespace, name }) => `${namespace}/${name}` === target);
  if (found === undefined) throw new Error(`no workload ${target}`);
  return { source, target: found, port, time: 0, ...(http === undefined ? {} : { http }) };
}

const keyOf = ({ source, target, port, http }: Observation): string => {
  const path = normalisePath(http?.path ?? '/');
  return JSON.stringify([source, target, port, http?.method, path.ok ? path.path : '']);
};

const everything: readonly Observation[] = SOURCES.flatMap((source) =>
  ['a/one', 'a/two', 'a/three'].flatMap((target) =>
    [80, 81].flatMap((port) =>
      ['GET', 'POST'].flatMap((method) =>
        PATHS.map((path) => ({ source, target, port, http: { method, path } })),
      ),
    ),
  ),
);

describe('suggestPolicies', () => {
  it('allows all that was seen and nothing else', () => {
    fc.assert(
      fc.property(fc.array(observation, { maxLength: 25 }), (seen) => {
        const { policies, uncovered } = suggestPolicies(seen, inventory);
        expect(uncovered).toEqual([]);
        const set = compilePolicySet(policies, { trustDomain: 'td' });
        expect(set.policies.flatMap(({ problems }) => problems ?? [])).toEqual([]);
        const keys = new Set(seen.map(keyOf));
        // The label of a/two is that of a/three too, which its service account tells apart.
        for (const one of everything)
          expect(evaluate(set, requestOf(one)).allowed).toBe(keys.has(keyOf(one)));
      }),
      { numRuns: 200 },
    );
  });

  it('makes templates of ids only when asked, and from so many on as was said', () => {
    const seen = ['/u/1', '/u/2', '/u/3', '/u/me', '/o/11111111-2222-3333-4444-555555555555'].map(
      (path): Observation => ({
        source: SOURCES[0],
        target: 'a/one',
        port: 80,
        http: { method: 'GET', path },
      }),
    );
    const paths = (from?: number) =>
      suggestPolicies(seen, inventory, from === undefined ? {} : { generalizeFrom: from }).policies[0]?.spec
        .rules[0]?.to?.[0]?.http?.paths;
    expect(paths()).toHaveLength(5);
    expect(paths(3)).toEqual([
      { exact: '/o/11111111-2222-3333-4444-555555555555' },
      { exact: '/u/me' },
      { template: '/u/{id}' },
    ]);
    expect(paths(4)).toHaveLength(5);
  });

  it('lists what it does not allow, with the reason', () => {
    const http = { method: 'GET', path: '/a' };
    const base = { source: SOURCES[0], target: 'a/one', port: 80 };
    const { policies, uncovered } = suggestPolicies(
      [
        { ...base, http, allowed: false },
        { ...base, source: undefined, http },
        { ...base, target: 'a/nobody', http },
        { ...base, http: { method: 'GET', path: '/a//b' } },
        { ...base, http: { method: 'GET', path: '/a*' } },
        { ...base, http: { method: 'get', path: '/a' } },
        { ...base, source: 'https://x', http },
        { ...base, source: 'https://x', http },
      ],
      inventory,
    );
    expect(policies).toEqual([]);
    expect(uncovered.map(({ reason, count }) => [reason.slice(0, 24), count])).toEqual([
      ['it was denied', 1],
      ['the caller had no identi', 1],
      ['there is no such workloa', 1],
      ['it is refused whatever t', 1],
      ['no pattern says its path', 1],
      ['the method is not writte', 1],
      ['the source is no valid S', 2],
    ]);
  });

  it('remembers only so many accesses, and says so', () => {
    const seen = Array.from({ length: 5 }, (_, at): Observation => ({
      source: SOURCES[0],
      target: 'a/one',
      port: 80,
      http: { method: 'GET', path: `/${at}` },
    }));
    const { uncovered } = suggestPolicies(seen, inventory, { maxAccesses: 3 });
    expect(uncovered.map(({ count }) => count)).toEqual([2]);
  });
});

describe('parseObservation', () => {
  const http = { method: 'GET', path: '/a', host: 'api' };
  const seen = { source: 'spiffe://td/x', target: 'a/one', port: 80, http };

  it.each([
    ['ours', JSON.stringify({ ...seen, allowed: true }), { ...seen, allowed: true }],
    ['ours, target as object', JSON.stringify({ ...seen, target: { namespace: 'a', name: 'one' } }), seen],
    ['ours, without identity', JSON.stringify({ ...seen, source: null }), { ...seen, source: undefined }],
    [
      "Envoy's JSON",
      '{"method":"GET","path":"/a","authority":"api","response_code":200,"downstream_peer_uri_san":"spiffe://td/x","upstream_cluster":"inbound|80||"}',
      { ...seen, allowed: true },
    ],
    [
      "Envoy's JSON, two SANs",
      '{"method":"GET","path":"/a","authority":"api","response_code":403,"downstream_peer_uri_san":"spiffe://td/x,spiffe://td/y","downstream_local_address":"10.0.0.1:80"}',
      { ...seen, source: undefined, allowed: false },
    ],
    [
      "Envoy's text",
      '[2026-01-01T00:00:00.000Z] "GET /a HTTP/1.1" 200 - 0 5 1 0 "-" "curl/8" "abc" "api" "10.0.0.9:80" "spiffe://td/x"',
      { ...seen, allowed: true },
    ],
  ])('reads %s', (_, line, expected) => {
    const result = parseObservation(line, 1, { target: 'a/one' });
    expect(result).toEqual({ kind: 'observation', observation: expected });
  });

  it.each([
    ['{', 'is no JSON'],
    ['{"source":"spiffe://td/x"}', 'does not name the workload'],
    ['{"source":"spiffe://td/x","target":"a/b"}', 'does not name the port'],
    ['{"source":"spiffe://td/x","target":"a","port":80}', 'is not namespace/name'],
    ['{"source":7,"target":"a/b","port":80}', '"source" is no text'],
    ['{"source":null,"target":"a/b","port":0}', 'no port'],
    ['{"target":"a/b","port":80,"http":{"method":"GET"}}', '"path" is missing'],
    ['{"hello":1}', 'has none of the fields'],
    ['GET /a', 'neither JSON nor'],
    ['[x] "GET /a HTTP/1.1" 200 - 0 5 1 0 "-"', 'DOWNSTREAM_PEER_URI_SAN'],
    ['x'.repeat(70_000), 'characters'],
  ])('says what is wrong with %j and in which line', (line, message) => {
    const result = parseObservation(line, 7);
    expect(result).toEqual({
      kind: 'problem',
      problem: { line: 7, message: expect.stringContaining(message) as unknown },
    });
  });

  it('never throws for what a line holds', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.string().map((text) => `[x] "GET ${text}`),
        ),
        (line) => {
          expect(['observation', 'empty', 'problem']).toContain(parseObservation(line, 1).kind);
        },
      ),
    );
  });
});
