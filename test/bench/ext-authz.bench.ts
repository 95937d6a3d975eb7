import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runGo } from '../e2e/support/clients.js';
import { cpuMs } from '../e2e/support/process.js';
import {
  clusterIdentity,
  identity,
  namespace,
  pod,
  trustDomain,
  writeResources,
  type Manifest,
} from '../e2e/support/resources.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { startSignet, type Signet } from '../e2e/support/signet.js';
import { answerHello, bootstrap, envoyType, httpManager, listener, type Json } from '../rig/envoy-config.js';
import { startEnvoyProxy } from '../rig/envoy-proxy.js';
import * as rig from '../rig/rig.js';
import { encodeRequest, type HttpRequest } from '../rig/http1.js';
import { makeTokenKey, signToken } from '../support/oidc-provider.js';
import { startOpaServer } from './opa-rest.js';
import { startOpenLoad, type LoadResult, type LoadRun } from './open-load.js';
import { median } from './quantile.js';
import type { BenchRow } from './row.js';

const ROUNDS = 5;
const PER_SECOND = 2000;
const SECONDS = 2;
const POLICIES = 100;
const RULES = 10;
const ISSUER = 'https://login.test/';
const DOMAIN = 'shop.test';

type Load = Pick<LoadRun, 'network' | 'address' | 'requests' | 'status'> & Partial<LoadRun>;

/**
 * What asking Signet adds to a request through the real Envoy: `signet dev` as it is shipped, asked over the unix socket of
 * the pod, about a target of 1,000 rules; 2,000 requests a second over mutual TLS, sent when they are due whether or not
 * the answers keep up. Envoy answers them itself; less what the same Envoy takes without the filter. OPA's REST API beside
 * it is asked by the client without any Envoy, at the same rate. All take turns; the median of several rounds.
 */
export async function run(): Promise<BenchRow[]> {
  const scope = newScope();
  try {
    const { signet, key } = await startShop(scope);
    const envoy = await startEnvoyProxy(twoListeners(signet.socket('back')));
    scope.onEnd(() => envoy.stop());
    const through = {
      ...{ network: 'tcp' as const, status: 200, ...(await credentials(scope, signet.socket('front'))) },
    };
    const guarded = { ...through, address: `127.0.0.1:${envoy.port('guarded')}` };
    const token = tokens(key);
    const repeated = token();
    const loads = new Map<string, () => Load>();
    const items = Array.from({ length: 97 }, (_, at) => text({ path: `/items/${at}` }));
    loads.set('open', () => ({ ...through, address: `127.0.0.1:${envoy.port('open')}`, requests: items }));
    loads.set('allowed', () => ({ ...guarded, requests: items }));
    loads.set('denied', () => ({ ...guarded, status: 403, requests: [text({ path: '/others' })] }));
    loads.set('known token', () => ({ ...guarded, requests: [withToken(repeated)] }));
    // Each is new to Signet: made before the run, which takes longer than the run itself.
    loads.set('new token', () => ({
      ...guarded,
      requests: Array.from({ length: PER_SECOND * (SECONDS + 1) }, () => withToken(token())),
    }));
    if (!rig.isSkipped('opa')) {
      const address = await startOpaServer(scope, REGO, { rules: opaRules() });
      loads.set('OPA', () => ({ network: 'unix', status: 200, address, requests: opaRequests() }));
    }
    return rowsOf(await measure(scope, signet, loads));
  } finally {
    await scope.end();
  }
}

interface Measured extends LoadResult {
  /** Signet's CPU time for one request, in µs. */
  readonly cpu: number;
}

async function measure(
  scope: Scope,
  signet: Signet,
  loads: ReadonlyMap<string, () => Load>,
): Promise<ReadonlyMap<string, readonly Measured[]>> {
  const send = await startOpenLoad(scope);
  const measured = new Map<string, Measured[]>([...loads.keys()].map((name) => [name, []]));
  const { pid } = signet.process;
  const warm = PER_SECOND;
  const count = PER_SECOND * SECONDS;
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, load] of loads) {
      const run = { perSecond: PER_SECOND, connections: 16, warm, count, ...load() };
      const before = cpuMs(pid);
      const result = await send(run);
      const cpu = ((cpuMs(pid) - before) * 1000) / (warm + count);
      measured.get(name)?.push({ ...result, cpu });
    }
  }
  return measured;
}

function rowsOf(measured: ReadonlyMap<string, readonly Measured[]>): BenchRow[] {
  const value = (name: string, which: keyof Measured): number =>
    median((measured.get(name) ?? []).map((round) => round[which]));
  // Run by run, since what is taken away must be of the same moment.
  const added = (name: string, to: string, which: 'p50' | 'p99'): number =>
    median(
      (measured.get(name) ?? []).map((round, at) => round[which] - (measured.get(to)?.[at]?.[which] ?? NaN)),
    );
  const below = (name: string, ms: number, limit: number): BenchRow => ({
    ...{ name, value: ms, unit: 'ms' },
    ...{ target: `< ${limit} ms`, pass: ms < limit },
  });
  const plain = (name: string, ms: number): BenchRow => ({ name, value: ms, unit: 'ms' });
  const rows = [
    plain('the client is late by, p99', value('open', 'lateP99')),
    plain('Envoy without a filter, p50', value('open', 'p50')),
    plain('Envoy without a filter, p99', value('open', 'p99')),
    below('asking Signet adds, allowed, p50', added('allowed', 'open', 'p50'), 0.3),
    below('asking Signet adds, allowed, p99', added('allowed', 'open', 'p99'), 1),
    plain('asking Signet adds, denied, p50', added('denied', 'open', 'p50')),
    plain('asking Signet adds, denied, p99', added('denied', 'open', 'p99')),
    below('a known token adds to allowed, p50', added('known token', 'allowed', 'p50'), 0.15),
    below('a new token of ES256 adds to allowed, p50', added('new token', 'allowed', 'p50'), 0.15),
    ...['allowed', 'denied', 'known token', 'new token'].map((name): BenchRow => ({
      name: `Signet's CPU per request, ${name}`,
      value: value(name, 'cpu'),
      unit: 'µs',
    })),
  ];
  if (!measured.has('OPA')) return rows;
  return [
    ...rows,
    plain("OPA's REST decision alone, p50", value('OPA', 'p50')),
    plain("OPA's REST decision alone, p99", value('OPA', 'p99')),
  ];
}

const text = (request: HttpRequest): string =>
  encodeRequest({ host: 'back.shop', ...request }).toString('latin1');
const withToken = (token: string): string =>
  text({ path: '/me', headers: [['authorization', `Bearer ${token}`]] });

/** Makes tokens, each another, of some 800 bytes. */
function tokens(key: ReturnType<typeof makeTokenKey>): () => string {
  let made = 0;
  return () => {
    const seconds = Math.floor(Date.now() / 1000);
    const groups = Array.from({ length: 12 }, (_, group) => `group-${group}-of-the-company`);
    const claims = {
      iss: ISSUER,
      sub: `user-${made++}`,
      aud: 'back',
      iat: seconds,
      exp: seconds + 3600,
      groups,
    };
    return signToken(key, claims);
  };
}

/** The pods `front` and `back`, and the policies of `back`. */
async function startShop(
  scope: Scope,
): Promise<{ readonly signet: Signet; readonly key: ReturnType<typeof makeTokenKey> }> {
  const key = makeTokenKey('k1');
  const resources = scope.folder();
  writeResources(resources, 'shop.yaml', [
    trustDomain(DOMAIN, {
      tokenIssuers: [{ issuer: ISSUER, audiences: ['back'], jwks: JSON.stringify({ keys: [key.jwk] }) }],
    }),
    namespace('shop'),
    ...['front', 'back'].flatMap((name) => [...pod(name), identity(name)]),
    // Whatever this user runs on the shared socket stands for the pod `back`.
    clusterIdentity('host', {
      spiffeIDTemplate: '/ns/shop/sa/back',
      processSelector: { uid: process.getuid?.() ?? -1 },
    }),
  ]);
  writeResources(resources, 'policies.yaml', policies());
  const signet = await startSignet(scope, { resources, state: scope.folder() });
  return { signet, key };
}

/** Each rule is for another caller but the last two, which are for `front`. */
function policies(): readonly Manifest[] {
  const allow = (name: string, account: string, prefix: string, when?: Manifest): Manifest => ({
    name,
    from: [{ serviceAccounts: [{ name: account }] }],
    to: [{ http: { methods: ['GET'], paths: [{ prefix }] } }],
    ...(when === undefined ? {} : { when }),
  });
  return Array.from({ length: POLICIES }, (_, at): Manifest => {
    const many = Array.from({ length: RULES }, (_, rule) =>
      allow(`r-${rule}`, `caller-${at}-${rule}`, `/svc${at}/${rule}`),
    );
    const own = [
      allow('front', 'front', '/items'),
      allow('users', 'front', '/me', { token: { issuers: [ISSUER] } }),
    ];
    return {
      apiVersion: 'signet.dev/v1alpha1',
      kind: 'AccessPolicy',
      metadata: { name: `p-${at}`, namespace: 'shop' },
      spec: {
        target: { podSelector: { matchLabels: { app: 'back' } } },
        rules: at === POLICIES - 1 ? [...many.slice(own.length), ...own] : many,
      },
    };
  });
}

const REGO = `package bench

default allow := false

allow if {
	some r in data.rules[input.principal]
	r.method == input.method
	startswith(input.path, r.prefix)
}
`;

/** As many rules as Signet has, arranged by hand under the caller. */
const opaRules = (): Readonly<Record<string, readonly object[]>> =>
  Object.fromEntries(
    Array.from({ length: POLICIES * RULES }, (_, at) => [
      at === 0 ? caller('front') : caller(`caller-${at}`),
      [{ method: 'GET', prefix: at === 0 ? '/items/' : `/svc${at}/` }],
    ]),
  );

const opaRequests = (): readonly string[] =>
  Array.from({ length: 97 }, (_, at) =>
    encodeRequest({
      method: 'POST',
      path: '/v1/data/bench/allow',
      headers: [['content-type', 'application/json']],
      body: JSON.stringify({ input: { principal: caller('front'), method: 'GET', path: `/items/${at}` } }),
    }).toString('latin1'),
  );

const caller = (account: string): string => `spiffe://${DOMAIN}/ns/shop/sa/${account}`;

async function credentials(
  scope: Scope,
  socket: string,
): Promise<{ readonly cert: string; readonly key: string }> {
  const file = join(scope.folder(), 'key.pem');
  const { svids } = await runGo(scope, ['x509', 'fetch', '-socket', socket, '-write-key', file]);
  return { cert: svids?.[0]?.pem ?? '', key: readFileSync(file, 'utf8') };
}

/** One Envoy of the pod whose socket this is, as docs/policy/enforcement.md says: `guarded` asks Signet, `open` does not. */
function twoListeners(socket: string): Json {
  const grpc = { grpc_services: [{ envoy_grpc: { cluster_name: 'signet' } }] };
  const sds = (name: string): Json => ({
    name,
    sds_config: {
      resource_api_version: 'V3',
      api_config_source: { api_type: 'GRPC', transport_api_version: 'V3', ...grpc },
    },
  });
  const transportSocket = {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': envoyType('extensions.transport_sockets.tls.v3.DownstreamTlsContext'),
      require_client_certificate: true,
      common_tls_context: {
        tls_certificate_sds_secret_configs: [sds('default')],
        validation_context_sds_secret_config: sds('ALL'),
      },
    },
  };
  const extAuthz = {
    name: 'envoy.filters.http.ext_authz',
    typed_config: {
      '@type': envoyType('extensions.filters.http.ext_authz.v3.ExtAuthz'),
      transport_api_version: 'V3',
      grpc_service: { envoy_grpc: { cluster_name: 'signet' }, timeout: '2s' },
      failure_mode_allow: false,
      include_peer_certificate: true,
    },
  };
  const signet = {
    ...{ name: 'signet', type: 'STATIC', connect_timeout: '1s' },
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': envoyType('extensions.upstreams.http.v3.HttpProtocolOptions'),
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
    load_assignment: {
      cluster_name: 'signet',
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socket } } } }] }],
    },
  };
  return bootstrap(
    [
      listener(httpManager(answerHello), { name: 'open', transportSocket }),
      listener(httpManager(answerHello, [extAuthz]), { name: 'guarded', transportSocket }),
    ],
    [signet],
  );
}
