import type * as Evaluate from '../../src/access/policy/evaluate.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import type { AccessRequest, TargetWorkload } from '../../src/access/policy/model.js';
import type * as Sets from '../../src/access/policy/policy-set.js';
import * as rig from '../rig/rig.js';
import { casbin, cedar, opaWasm, plainMap, type PeerRequest, type PeerRule } from './policy-peers.js';
import { median, quantile } from './quantile.js';
import type { BenchRow } from './row.js';

const ROUNDS = 3;
/** Per round, of each contestant. */
const BUDGET_MS = 300;
const MAX_CALLS = 100_000;
const RULES_PER_POLICY = 10;

/** How many targets there are, and how many policies concern each. */
interface Size {
  readonly name: string;
  readonly targets: number;
  readonly policies: number;
  /** Else each rule is for another caller. */
  readonly oneCaller?: true;
  /** The slow peers stay out. */
  readonly peers: 'all' | 'opa';
  /** In µs. */
  readonly p50?: number;
  readonly p99: number;
}

const SIZES: readonly Size[] = [
  { name: '10 rules', targets: 1, policies: 1, peers: 'all', p50: 2, p99: 20 },
  { name: '1,000 rules', targets: 1, policies: 100, peers: 'all', p50: 2, p99: 20 },
  {
    name: '1,000 rules for one caller',
    targets: 1,
    policies: 100,
    oneCaller: true,
    peers: 'opa',
    p50: 2,
    p99: 20,
  },
  {
    name: '10,000 policies, 100,000 rules, 20 and 200 of them for the target',
    targets: 500,
    policies: 20,
    peers: 'opa',
    p99: 50,
  },
];

/**
 * What a decision costs, for rules of a principal, a method and a path prefix: a compiled set, asked from memory, in one
 * thread. Half of the requests are allowed, spread over all rules; a quarter has another method, a quarter another caller.
 * Beside it, with the same rules and requests: a plain Map (the floor), and other engines that run in this process. They
 * take turns; every call is timed by itself, and the median of several rounds is told.
 */
export async function run(): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const size of SIZES) rows.push(...(await measureSize(size)));
  return rows;
}

const DENIAL = 'Signet, a denial and why';

/** Answers the n-th request. */
type Ask = (at: number) => boolean;

async function measureSize(size: Size): Promise<BenchRow[]> {
  const { compilePolicySet, evaluate } = await load();
  const targets = Array.from({ length: size.targets }, () => rulesOf(size));
  const requests = requestsOf(targets);
  const workloads = targets.map((_, at) => workload(at));
  const asked = requests.map(({ request }): AccessRequest => {
    const { target, principal: source, method, path } = request;
    const to = workloads[target];
    if (to === undefined) throw new Error('a request to nowhere');
    return { source, target: to, port: 8080, http: { method, path }, token: null, time: 0 };
  });
  const set = compilePolicySet(
    targets.flatMap((rules, at) => policiesOf(rules, at)),
    { trustDomain: 'example.org' },
  );
  const first = coldTarget(set, evaluate, asked, workloads);

  const contestants = new Map<string, Ask>();
  contestants.set('Signet', (at) => evaluate(set, asked[at % asked.length] ?? raise()).allowed);
  for (const [name, decide] of await peersOf(size, targets)) {
    contestants.set(name, (at) => decide(requests[at % requests.length]?.request ?? raise()));
  }
  for (const [name, ask] of contestants) check(name, ask, requests);
  // What an enforcement point asks of a denial.
  const refused = asked.filter((_, at) => requests[at]?.allowed === false);
  contestants.set(DENIAL, (at) => evaluate(set, refused[at % refused.length] ?? raise()).reason !== '');
  const times = new Map<string, { p50: number; p99: number }[]>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, ask] of contestants) {
      const known = times.get(name) ?? [];
      times.set(name, [...known, timed(ask)]);
    }
  }
  return [
    ...rowsOf(size, times),
    { name: `${size.name}: first decision of a target`, value: first, unit: 'µs' },
  ];
}

async function peersOf(
  { peers }: Size,
  targets: readonly (readonly PeerRule[])[],
): Promise<ReadonlyMap<string, (request: PeerRequest) => boolean>> {
  const floor = new Map([['a plain Map', plainMap(targets)]]);
  if (rig.isSkipped('opa')) return floor;
  const [only = []] = targets;
  floor
    .set('OPA wasm, indexed by hand', await opaWasm(targets, 'indexed'))
    .set('OPA wasm', await opaWasm(targets, 'plain'));
  return peers === 'opa'
    ? floor
    : floor.set('Casbin', await casbin(only)).set('Cedar wasm', await cedar(only));
}

function rowsOf(
  { name, ...targets }: Size,
  times: ReadonlyMap<string, readonly { readonly p50: number; readonly p99: number }[]>,
): BenchRow[] {
  const at = (who: string, which: 'p50' | 'p99'): number =>
    median((times.get(who) ?? []).map((round) => round[which]));
  const own = { p50: at('Signet', 'p50'), p99: at('Signet', 'p99') };
  return [...times.keys()].flatMap((who) =>
    (['p50', 'p99'] as const).map((which): BenchRow => {
      const row = { name: `${name}: ${who}, ${which}`, value: at(who, which), unit: 'µs' };
      if (who !== 'Signet') return { ...row, ratio: row.value / own[which] };
      const target = targets[which];
      return target === undefined ? row : { ...row, target: `≤ ${target} µs`, pass: row.value <= target };
    }),
  );
}

/** The time of each call by itself, in µs. */
function timed(ask: Ask): { readonly p50: number; readonly p99: number } {
  const times = new Float64Array(MAX_CALLS);
  const end = performance.now() + BUDGET_MS;
  let calls = 0;
  for (let from = performance.now(); calls < MAX_CALLS && from < end; from = performance.now()) {
    ask(calls);
    times[calls++] = (performance.now() - from) * 1000;
  }
  const made = times.subarray(0, calls);
  return { p50: quantile(made, 0.5), p99: quantile(made, 0.99) };
}

/** The median of what a set costs that is asked about a workload for the first time, in µs. */
function coldTarget(
  set: Sets.PolicySet,
  evaluate: typeof Evaluate.evaluate,
  asked: readonly AccessRequest[],
  workloads: readonly TargetWorkload[],
): number {
  const times = asked.slice(0, 200).map((request) => {
    const target = { ...(workloads[workloads.indexOf(request.target)] ?? raise()) };
    const from = performance.now();
    evaluate(set, { ...request, target });
    return (performance.now() - from) * 1000;
  });
  return median(times);
}

function check(name: string, ask: Ask, requests: readonly { readonly allowed: boolean }[]): void {
  for (const [at, { allowed }] of requests.slice(0, 200).entries()) {
    if (ask(at) !== allowed) throw new Error(`${name} does not answer request ${at} with ${allowed}`);
  }
}

async function load(): Promise<Pick<typeof Sets, 'compilePolicySet'> & Pick<typeof Evaluate, 'evaluate'>> {
  // What is shipped is measured; the types are those of its source.
  const built = async <T>(file: string): Promise<T> =>
    (await import(new URL(`../../dist/access/policy/${file}`, import.meta.url).href)) as T;
  const { compilePolicySet } = await built<typeof Sets>('policy-set.js');
  const { evaluate } = await built<typeof Evaluate>('evaluate.js');
  return { compilePolicySet, evaluate };
}

const rulesOf = ({ policies, oneCaller }: Size): readonly PeerRule[] =>
  Array.from({ length: policies * RULES_PER_POLICY }, (_, at) => ({
    principal: `spiffe://example.org/ns/n${oneCaller ? 0 : at}/sa/s${oneCaller ? 0 : at}`,
    method: at % 3 === 0 ? 'POST' : 'GET',
    prefix: `/svc${at}/`,
  }));

function requestsOf(
  targets: readonly (readonly PeerRule[])[],
): readonly { readonly request: PeerRequest; readonly allowed: boolean }[] {
  return Array.from({ length: 4000 }, (_, at) => {
    const target = (at * 31) % targets.length;
    const rules = targets[target] ?? raise();
    const { principal, method, prefix } = rules[(at * 7919) % rules.length] ?? raise();
    const request = { target, principal, method, path: `${prefix}items/${at}` };
    if (at % 4 === 1) return { request: { ...request, method: 'DELETE' }, allowed: false };
    const other = `spiffe://example.org/ns/other/sa/x${at % 50}`;
    if (at % 4 === 3) return { request: { ...request, principal: other }, allowed: false };
    return { request, allowed: true };
  });
}

const workload = (at: number): TargetWorkload => ({
  namespace: `ns-${at % 100}`,
  name: `app-${at}`,
  serviceAccount: `app-${at}`,
  labels: { app: `app-${at}`, team: 'blue', version: 'v1' },
  namespaceLabels: {},
});

function policiesOf(rules: readonly PeerRule[], target: number): readonly PolicyInput[] {
  const { namespace, name: app } = workload(target);
  return Array.from({ length: rules.length / RULES_PER_POLICY }, (_, policy) => ({
    kind: 'AccessPolicy' as const,
    metadata: { name: `app-${target}-${policy}`, namespace },
    spec: {
      target: { podSelector: { matchLabels: { app } } },
      rules: rules
        .slice(policy * RULES_PER_POLICY, (policy + 1) * RULES_PER_POLICY)
        .map(({ principal, method, prefix }, rule) => ({
          name: `r-${rule}`,
          from: [{ spiffeIDs: [principal] }],
          to: [{ http: { methods: [method], paths: [{ prefix: prefix.slice(0, -1) }] } }],
        })),
    },
  }));
}

function raise(): never {
  throw new Error('no such request');
}
