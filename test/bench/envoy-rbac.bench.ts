import type { Socket } from 'node:net';
import { envoyFilters } from '../../src/access/mesh/envoy/filters.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import { newCredentialSource } from '../rig/credentials.js';
import {
  answerHello,
  bootstrap,
  envoyType,
  httpManager,
  listener,
  serverTls,
  type Json,
} from '../rig/envoy-config.js';
import { startEnvoyProxy } from '../rig/envoy-proxy.js';
import { encodeRequest } from '../rig/http1.js';
import { newMeshClient } from '../rig/mesh-client.js';
import { contextOf, policy, TARGET } from '../proof/envoy-target.js';
import type { BenchRow } from './row.js';

const ROUNDS = 8;
const REQUESTS = 1500;
const SIZES = [10, 100, 1000];
const CALLER = 'spiffe://td/ns/shop/sa/caller';
const REQUEST = encodeRequest({ method: 'GET', path: '/api/last/1', host: 'payments.example' });

/**
 * What policies add to a request through the real Envoy: one mTLS connection that is kept open, answered by Envoy itself.
 * Signet's matcher tree beside a list of policies in one RBAC filter, as meshes render them; the caller's policy is the
 * last. Median of a round trip, the lowest of several rounds, less that without any filter; all take turns.
 */
export async function run(): Promise<BenchRow[]> {
  const credentials = await newCredentialSource(['td']);
  const transportSocket = serverTls(
    await credentials.of('spiffe://td/ns/shop/sa/payments'),
    credentials.trust,
  );
  const variants = new Map<string, readonly Json[]>([['no filter', []]]);
  for (const size of SIZES) {
    variants.set(`${size} policies`, tree(callers(size)));
    variants.set(`${size} policies as a list`, list(size));
  }
  variants.set('1000 policies for one caller', tree(paths(1000)));
  const listeners = [...variants].map(([name, filters]) =>
    listener(httpManager(answerHello, filters), { name, transportSocket }),
  );
  const envoy = await startEnvoyProxy(bootstrap(listeners));
  const client = newMeshClient(credentials);
  try {
    const sockets = new Map<string, Socket>();
    for (const name of variants.keys())
      sockets.set(name, await client.connect({ port: envoy.port(name), source: CALLER }));
    const lowest = new Map<string, number>();
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, socket] of sockets)
        lowest.set(name, Math.min(lowest.get(name) ?? Infinity, await medianRoundTrip(socket)));
    }
    for (const socket of sockets.values()) socket.destroy();
    return rowsOf(lowest);
  } finally {
    client.close();
    await envoy.stop();
  }
}

function rowsOf(lowest: ReadonlyMap<string, number>): BenchRow[] {
  const base = lowest.get('no filter') ?? NaN;
  const added = [...lowest].filter(([name]) => name !== 'no filter');
  return [
    { name: 'Envoy: round trip without a filter', value: base, unit: 'µs' },
    ...added.map(([name, value]): BenchRow => {
      const row = { name: `Envoy: added by ${name}`, value: value - base, unit: 'µs' };
      return name.startsWith('1000') && !name.endsWith('list')
        ? { ...row, target: '≤ 30 µs', pass: row.value <= 30 }
        : row;
    }),
  ];
}

const tree = (policies: readonly PolicyInput[]): readonly Json[] =>
  envoyFilters(TARGET, contextOf(policies), { port: 8080 }).http;

const allow = (name: string, caller: string, prefix: string): PolicyInput =>
  policy(name, [
    { from: [{ spiffeIDs: [caller] }], to: [{ http: { methods: ['GET'], paths: [{ prefix }] } }] },
  ]);

/** Each for another caller; the last is ours. */
const callers = (size: number): readonly PolicyInput[] =>
  names(size).map(([name, path], at) => allow(name, at === size - 1 ? CALLER : `${CALLER}-${at}`, path));

/** All for our caller, each for another path. */
const paths = (size: number): readonly PolicyInput[] =>
  names(size).map(([name, path]) => allow(name, CALLER, path));

const names = (size: number): readonly (readonly [name: string, path: string])[] =>
  Array.from({ length: size }, (_, at) => [
    `p${String(at).padStart(5, '0')}`,
    at === size - 1 ? '/api/last' : `/api/v${at}`,
  ]);

/** The same rules as one list, which Envoy tries from the first name to the last. */
function list(size: number): readonly Json[] {
  const policies = names(size).map(([name, path], at) => [
    name,
    {
      permissions: [
        {
          and_rules: {
            rules: [
              { header: { name: ':method', string_match: { exact: 'GET' } } },
              {
                or_rules: {
                  rules: [
                    { url_path: { path: { exact: path } } },
                    { url_path: { path: { prefix: `${path}/` } } },
                  ],
                },
              },
            ],
          },
        },
      ],
      principals: [
        { authenticated: { principal_name: { exact: at === size - 1 ? CALLER : `${CALLER}-${at}` } } },
      ],
    },
  ]);
  return [
    {
      name: 'envoy.filters.http.rbac',
      typed_config: {
        '@type': envoyType('extensions.filters.http.rbac.v3.RBAC'),
        rules: { action: 'ALLOW', policies: Object.fromEntries(policies) as Json },
      },
    },
  ];
}

async function medianRoundTrip(socket: Socket): Promise<number> {
  const times: number[] = [];
  for (let at = 0; at < REQUESTS; at++) {
    const start = performance.now();
    const answer = await roundTrip(socket);
    times.push((performance.now() - start) * 1000);
    if (!answer.startsWith('HTTP/1.1 200')) throw new Error(`answered ${answer.slice(0, 60)}`);
  }
  return times.sort((a, b) => a - b)[REQUESTS >> 1] ?? NaN;
}

const roundTrip = (socket: Socket): Promise<string> =>
  new Promise((resolve, reject) => {
    socket.once('data', (chunk: Buffer) => {
      socket.off('error', reject);
      resolve(chunk.toString('latin1'));
    });
    socket.once('error', reject);
    socket.write(REQUEST);
  });
