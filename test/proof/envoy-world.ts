/** Random worlds asked of the real Envoy: each target and port is a listener of its own, all in one process. */
import fc from 'fast-check';
import { exportJWK, generateKeyPair, SignJWT, type JWK } from 'jose';
import { HTTP_CONNECTION_MANAGER } from '../../src/access/mesh/envoy/connection-manager.js';
import { envoyFilters, type EnvoyFilters } from '../../src/access/mesh/envoy/filters.js';
import type { Json } from '../../src/access/mesh/envoy/predicate.js';
import type { InventoryWorkload } from '../../src/access/mesh/inventory.js';
import type { RenderedIssuer } from '../../src/access/mesh/renderer.js';
import { evaluate, type Decision } from '../../src/access/policy/evaluate.js';
import type { AccessRequest, ValidatedToken } from '../../src/access/policy/model.js';
import type { PolicySet } from '../../src/access/policy/policy-set.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import {
  answerHello,
  bootstrap,
  echo,
  httpManager,
  listener,
  serverTls,
  socketAddress,
} from '../rig/envoy-config.js';
import { FilterServer } from './envoy-served.js';
import { startEnvoyProxy, type EnvoyProxy } from '../rig/envoy-proxy.js';
import type { CredentialSource } from '../rig/credentials.js';
import { newMeshClient, type MeshAnswer, type MeshClient } from '../rig/mesh-client.js';
import { TOKENS } from '../support/policy-conditions.js';
import { compileWorld, WORLD } from '../support/policies.js';
import type { World } from '../support/policy-worlds.js';

/** The world's addresses, as addresses of loopback: a client has no others. */
const LOOPBACK: Readonly<Record<string, string>> = {
  '10.0.0.0/8': '127.10.0.0/16',
  '10.1.0.0/16': '127.10.1.0/24',
  '192.0.2.7/32': '127.19.2.7/32',
  '2001:db8::/32': '127.66.0.0/16',
  '::ffff:10.1.2.3': '127.10.1.3',
  '10.0.0.1': '127.10.0.1',
  '10.1.2.3': '127.10.1.3',
  '192.0.2.7': '127.19.2.7',
  '192.0.2.8': '127.19.2.8',
  '2001:db8::1': '127.66.0.1',
  '2001:db9::1': '127.67.0.1',
};

/** The same with every address of the world exchanged. */
function onLoopback<T>(value: T): T {
  return JSON.parse(JSON.stringify(value), (_, inner: unknown) =>
    typeof inner === 'string' ? (LOOPBACK[inner] ?? inner) : inner,
  ) as T;
}

/** Token issuers with one key. */
export interface Issuers {
  readonly rendered: readonly RenderedIssuer[];
  sign(token: ValidatedToken): Promise<string>;
}

export async function newIssuers(): Promise<Issuers> {
  const { privateKey, publicKey } = await generateKeyPair('ES256');
  const jwk: JWK = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' };
  const jwks = JSON.stringify({ keys: [jwk] });
  return {
    rendered: TOKENS.issuers.map((issuer) => ({ issuer, jwks })),
    // Envoy asks for an expiry by the real clock.
    sign: ({ claims }) =>
      new SignJWT({ ...claims })
        .setProtectedHeader({ alg: 'ES256', kid: 'k' })
        .setExpirationTime('2h')
        .sign(privateKey),
  };
}

/** One request, with what the policies and Envoy say of it. */
export interface Asked {
  readonly world: number;
  readonly request: AccessRequest;
  readonly decision: Decision;
  readonly allowed: boolean;
  readonly answer: MeshAnswer | undefined;
  readonly filters: EnvoyFilters;
  readonly set: PolicySet;
}

/** How Envoy gets the filters: in its own configuration, or as Signet serves them, byte for byte. */
export type Delivery = 'configured' | 'served';

interface Case {
  readonly world: number;
  readonly set: PolicySet;
  readonly request: AccessRequest;
  readonly filters: EnvoyFilters;
  /** Where its listener is. */
  readonly address: string;
  readonly port: number;
}

const SERVER = 'spiffe://td/ns/rig/sa/server';

/** What was asked, and the Envoy that answered. */
export interface Campaign {
  readonly asked: readonly Asked[];
  readonly envoy: EnvoyProxy;
  /** The part of the names of statistics that is one listener's. */
  statsOf(asked: Asked): string;
  stop(): Promise<void>;
}

/** Renders each world, starts one Envoy with all of it, and asks it everything. */
export async function askEnvoy(
  worlds: readonly World[],
  credentials: CredentialSource,
  issuers: Issuers,
  delivery: Delivery = 'configured',
): Promise<Campaign> {
  const listeners = new Map<string, Json>();
  const tls = serverTls(await credentials.of(SERVER), credentials.trust);
  const served = delivery === 'served' ? new FilterServer() : undefined;
  await served?.open();
  const cases = worlds.flatMap((world, index) => casesOf(world, index, { issuers, tls, served }, listeners));
  const envoy = await startEnvoyProxy(
    bootstrap([...listeners.values()], served === undefined ? [] : [served.cluster]),
  );
  const client = newMeshClient(credentials);
  try {
    const asked: Asked[] = [];
    const next = cases.entries();
    const work = async (): Promise<void> => {
      for (const [index, one] of next) asked[index] = await ask(one, client, issuers);
    };
    await Promise.all(Array.from({ length: 8 }, work));
    return {
      asked,
      envoy,
      statsOf: ({ world, request }) => statPrefix(world, request),
      async stop() {
        client.close();
        await envoy.stop();
        await served?.close();
      },
    };
  } catch (error) {
    client.close();
    await envoy.stop();
    await served?.close();
    throw error;
  }
}

interface Setting {
  readonly issuers: Issuers;
  readonly tls: Json;
  /** Where filters are served from; undefined when they are in Envoy's own configuration. */
  readonly served: FilterServer | undefined;
}

const statPrefix = (world: number, { source, target, port, http }: AccessRequest): string =>
  `w${world}-${target.namespace}-${target.name}-${port ?? 0}-${http === undefined ? 'tcp' : 'http'}-${source === undefined ? 'plain' : 'tls'}`;

function casesOf(
  world: World,
  index: number,
  { issuers, tls, served }: Setting,
  listeners: Map<string, Json>,
): readonly Case[] {
  const { inventory } = world;
  const set = compileWorld(onLoopback(world.inputs), inventory, { defaultAction: world.defaultAction });
  const context = { set, inventory, time: WORLD.now, zones: new ZoneClock(), issuers: issuers.rendered };
  const rendered = new Map<string, EnvoyFilters>();
  return world.requests.map((drawn): Case => {
    const request: AccessRequest = { ...onLoopback(drawn), source: drawn.source, target: drawn.target };
    const target = request.target as InventoryWorkload;
    const plaintext = request.source === undefined;
    const key = `${target.namespace}/${target.name}/${plaintext}`;
    const filters = rendered.get(key) ?? envoyFilters(target, context, { plaintext });
    rendered.set(key, filters);
    const port = request.port ?? 0;
    const name = statPrefix(index, request);
    const place = inventory.workloads.indexOf(target);
    const kind = (place << 2) | (request.http === undefined ? 0 : 2) | (request.source === undefined ? 0 : 1);
    const address = `127.77.${index >> 3}.${((index & 7) << 5) | kind}`;
    const chains =
      served?.chains(name, { sources: { set, inventory, target, issuers: issuers.rendered }, plaintext }) ??
      filters;
    listeners.set(name, listenerFor(name, request, chains, { address: socketAddress(address, port), tls }));
    return { world: index, set, request, filters, address, port };
  });
}

function listenerFor(
  name: string,
  { http, source }: AccessRequest,
  filters: Pick<EnvoyFilters, 'http' | 'network'>,
  { address, tls }: { readonly address: Json; readonly tls: Json },
): Json {
  // Whoever has no identity comes without TLS: Envoy's SPIFFE validator lets nobody in without a certificate.
  const place = { name, address, ...(source === undefined ? {} : { transportSocket: tls }) };
  if (http === undefined) {
    const networkFilters = filters.network.map((filter) => withPrefix(filter, name));
    return listener(echo, { ...place, networkFilters });
  }
  const manager = httpManager(answerHello, filters.http, { ...HTTP_CONNECTION_MANAGER, stat_prefix: name });
  return listener(manager, place);
}

/** A network filter whose statistics are its listener's own. */
function withPrefix(filter: Json, name: string): Json {
  const config = filter['typed_config'] as Json | undefined;
  if (config === undefined) return filter;
  return { ...filter, typed_config: { ...config, stat_prefix: `${name}.` } };
}

async function ask(one: Case, client: MeshClient, issuers: Issuers): Promise<Asked> {
  const { request, set, filters, address, port, world } = one;
  const { http, token, source, sourceIp } = request;
  const peer = {
    address,
    port,
    ...(source === undefined ? { plaintext: true } : { source }),
    ...(sourceIp === undefined ? {} : { sourceIp }),
  };
  const base = { world, request, filters, set, decision: evaluate(set, request) };
  if (http === undefined) return { ...base, allowed: await client.echoes(peer), answer: undefined };
  const headers = Object.entries(http.headers ?? {});
  if (token) headers.push(['authorization', `Bearer ${await issuers.sign(token)}`]);
  const answer = await client.request({
    ...peer,
    method: http.method,
    path: http.path,
    ...(http.host === undefined ? {} : { host: http.host }),
    headers,
  });
  return { ...base, allowed: answer.status === 200, answer };
}

/** Worlds by a seed, the same each time. */
export const sampleWorlds = (worlds: fc.Arbitrary<World>, count: number, seed: number): readonly World[] =>
  fc.sample(worlds, { numRuns: count, seed });
