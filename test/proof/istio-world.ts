/** Random worlds asked of istiod and the real Envoy: one listener for each target. */
import fc from 'fast-check';
import { istioRenderer, type IstioOptions } from '../../src/access/mesh/istio/renderer.js';
import { createInventory, type InventoryWorkload } from '../../src/access/mesh/inventory.js';
import { render, type RenderContext, type Rendering, type Verdict } from '../../src/access/mesh/renderer.js';
import { evaluate, type Decision } from '../../src/access/policy/evaluate.js';
import { policyName, type AccessRequest } from '../../src/access/policy/model.js';
import { normalisePath } from '../../src/access/policy/path.js';
import type { PolicySet } from '../../src/access/policy/policy-set.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import type { Istio, IstioAdmission, IstioDecision, IstioRequest, IstioWorkload } from '../rig/istio.js';
import { TOKENS } from '../support/policy-conditions.js';
import { compileWorld, WORLD } from '../support/policies.js';
import type { World } from '../support/policy-worlds.js';

/** One request, with what the policies and Istio say of it. */
export interface Asked {
  readonly request: AccessRequest;
  readonly decision: Decision;
  readonly answer: IstioDecision;
  readonly set: PolicySet;
  /** Those about the target. */
  readonly verdicts: readonly Verdict[];
  readonly rendering: Rendering;
}

/** The rig's clients speak IPv4. */
const IPV4: Readonly<Record<string, string>> = {
  '2001:db8::/32': '198.51.100.0/24',
  '2001:db8::1': '198.51.100.1',
  '2001:db9::1': '203.0.113.9',
  '::ffff:10.1.2.3': '10.1.2.3',
};

export function onIpv4<T>(value: T): T {
  return JSON.parse(JSON.stringify(value), (_, inner: unknown) =>
    typeof inner === 'string' ? (IPV4[inner] ?? inner) : inner,
  ) as T;
}

export function toYaml(objects: readonly unknown[]): string {
  // The rig puts JSON in the place of the word, so its quotes may not be double ones.
  const text = objects.map((object) => JSON.stringify(object)).join('\n---\n');
  return text.replaceAll('"__TEST_JWKS__"', "'__TEST_JWKS__'");
}

/** The rendering of a world. */
export function renderWorld(
  world: World,
  options: IstioOptions & { readonly aliases?: readonly string[] } = {},
): { readonly rendering: Rendering; readonly context: RenderContext } {
  const { aliases, ...rest } = options;
  const inventory =
    aliases === undefined
      ? world.inventory
      : createInventory({ ...world.inventory, trustDomainAliases: aliases });
  const set = compileWorld(onIpv4(world.inputs), inventory, { defaultAction: world.defaultAction });
  const issuers = TOKENS.issuers.map((issuer) => ({ issuer, jwks: '__TEST_JWKS__' }));
  const context = { set, inventory, time: WORLD.now, zones: new ZoneClock(), issuers };
  return { rendering: render(istioRenderer(rest), context), context };
}

/** Renders each world and asks Istio everything; `admitted` gets what admission says of each object. */
export async function askIstio(
  istio: Istio,
  worlds: readonly World[],
  admitted: (admission: IstioAdmission) => void,
  aliases?: readonly string[],
): Promise<readonly Asked[]> {
  const asked: Asked[] = [];
  for (const world of worlds) {
    const { rendering, context } = renderWorld(world, aliases === undefined ? {} : { aliases });
    const byTarget = Map.groupBy(world.requests, ({ target }) => target as InventoryWorkload);
    for (const [target, drawn] of byTarget) {
      const requests = drawn.map((one) => asSent({ ...onIpv4(one), target }));
      const loaded = await istio.load(istioWorkload(target, aliases), toYaml(rendering.objects));
      loaded.validation.forEach(admitted);
      const answers = await istio.decide(requests.map(istioRequest));
      const verdicts = verdictsOf(rendering, target, context.set);
      for (const [index, request] of requests.entries()) {
        const answer = answers[index];
        if (answer === undefined) throw new Error('an answer is missing');
        const decision = evaluate(context.set, asSeen(request));
        asked.push({ request, decision, answer, set: context.set, verdicts, rendering });
      }
    }
  }
  return asked;
}

export function istioWorkload(
  target: InventoryWorkload,
  aliases: readonly string[] | undefined,
): IstioWorkload {
  return {
    namespace: target.namespace,
    serviceAccount: target.serviceAccount,
    labels: target.labels,
    trustDomain: WORLD.trustDomain,
    ports: target.ports.map(({ port, protocol }) => ({ port, protocol })),
    bindPorts: [WORLD.strayPort],
    ...(aliases === undefined ? {} : { trustDomainAliases: aliases }),
  };
}

/** HTTP takes the blanks around a header's value away; a connection without HTTP shows no token. */
export function asSent({ token, ...rest }: AccessRequest): AccessRequest {
  const { http } = rest;
  if (http === undefined) return rest;
  const request = token === undefined ? rest : { ...rest, token };
  if (http.headers === undefined) return request;
  const headers = Object.fromEntries(
    Object.entries(http.headers).map(([name, value]) => [name, value.trim()]),
  );
  return { ...request, http: { ...http, headers } };
}

/** What the workload sees: Envoy resolves dot segments, as browsers do. */
export function asSeen(request: AccessRequest): AccessRequest {
  const { http } = request;
  if (http === undefined || normalisePath(http.path).ok || !http.path.startsWith('/')) return request;
  const { pathname, search } = new URL(`http://host${http.path}`);
  return { ...request, http: { ...http, path: `${pathname}${search}` } };
}

export function istioRequest({ source, port, sourceIp, http, token }: AccessRequest): IstioRequest {
  return {
    ...(source === undefined ? {} : { source }),
    ...(port === undefined ? {} : { port }),
    ...(sourceIp === undefined ? {} : { sourceIp }),
    protocol: http === undefined ? 'tcp' : 'http',
    ...(http === undefined
      ? {}
      : {
          method: http.method,
          path: http.path,
          ...(http.host === undefined ? {} : { host: http.host }),
          ...(http.headers === undefined ? {} : { headers: http.headers }),
          ...(token === undefined || token === null ? {} : { jwt: token.claims }),
        }),
  };
}

/** The verdicts of the policies that concern a workload, as far as they are about it. */
export function verdictsOf(
  { verdicts }: Rendering,
  target: InventoryWorkload,
  set: PolicySet,
): readonly Verdict[] {
  const name = `${target.namespace}/${target.name}`;
  const policies = new Set(set.concerning(target).map(({ ref }) => `${ref.kind} ${policyName(ref)}`));
  return verdicts.filter(
    ({ policy, targets }) => targets?.includes(name) ?? policies.has(`${policy.kind} ${policyName(policy)}`),
  );
}

export function sample(worlds: fc.Arbitrary<World>, runs: number, seed: number): readonly World[] {
  return fc.sample(worlds, { numRuns: runs, seed });
}
