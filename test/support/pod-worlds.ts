/**
 * Random inventories and connections for engines that know pods and addresses: labels and service accounts that pods share,
 * pods with several identities, with none, and with one that does not fit their namespace. In the world of policies.ts.
 */
import fc from 'fast-check';
import type { Inventory, InventoryContent, InventoryWorkload } from '../../src/access/mesh/inventory.js';
import type { RenderContext, Rendering } from '../../src/access/mesh/renderer.js';
import { evaluate } from '../../src/access/policy/evaluate.js';
import type { AccessRequest, HttpRequest, IpBlock } from '../../src/access/policy/model.js';
import type { PolicySet } from '../../src/access/policy/policy-set.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { parseIpBlock } from '../../src/lib/ip-address.js';
import type { Cilium, CiliumPeer, CiliumRequest } from '../rig/cilium.js';
import { WORLD } from './policies.js';

const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);
const NAMESPACES = [...WORLD.namespaces, 'c'] as const;

function identities(namespace: string, serviceAccount: string): fc.Arbitrary<readonly string[]> {
  const own = `spiffe://td/ns/${namespace}/sa/${serviceAccount}`;
  return fc.oneof(
    { weight: 8, arbitrary: fc.constant([own]) },
    { weight: 1, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.constant([own, `spiffe://td/ns/${namespace}/other/x`]) },
    {
      weight: 1,
      arbitrary: pick([['spiffe://td/x'], ['spiffe://td.evil/ns/a/sa/x'], ['spiffe://td/ns/a/sa/x']]),
    },
  );
}

function workload(namespace: string, name: string, team: string): fc.Arbitrary<InventoryWorkload> {
  return fc
    .record({
      serviceAccount: pick(WORLD.serviceAccounts),
      app: pick(WORLD.apps),
      version: fc.option(pick(['v1', 'v2']), { nil: undefined }),
    })
    .chain(({ serviceAccount, app, version }) =>
      identities(namespace, serviceAccount).map((spiffeIds) => ({
        namespace,
        name,
        serviceAccount,
        labels: { app, ...(version === undefined ? {} : { version }) },
        namespaceLabels: { team, 'kubernetes.io/metadata.name': namespace },
        spiffeIds,
        ports: [
          { port: WORLD.ports[0], protocol: 'http' as const },
          { port: WORLD.ports[1], protocol: 'tcp' as const },
        ],
      })),
    );
}

/** Up to three workloads for each of three namespaces. */
export const podInventories: fc.Arbitrary<InventoryContent> = fc
  .tuple(
    ...NAMESPACES.map((name) =>
      fc
        .record({ team: pick(WORLD.teams), names: fc.subarray(['one', 'two', 'three']) })
        .chain(({ team, names }) =>
          fc.record({
            namespace: fc.constant({ name, labels: { team, 'kubernetes.io/metadata.name': name } }),
            workloads: fc.tuple(...names.map((one) => workload(name, one, team))),
          }),
        ),
    ),
  )
  .map((parts) => ({
    trustDomain: WORLD.trustDomain,
    namespaces: parts.map(({ namespace }) => namespace),
    workloads: parts.flatMap(({ workloads }) => workloads),
  }))
  .filter(({ workloads }) => workloads.length > 0);

/** One connection, as the engine sees it and as whom the policies may see it. */
export interface Connection {
  readonly asked: CiliumRequest;
  /** Every request that it may be; which one the engine cannot know. */
  readonly requests: readonly AccessRequest[];
  /** Whether verdicts speak of it: the caller is of the inventory, or from outside and without identity. */
  readonly isJudged: boolean;
}

const POD_IP = '10.244.1.2';

export const POD_NETWORK: IpBlock = blockOf('10.244.0.0/16');

function blockOf(text: string): IpBlock {
  const parsed = parseIpBlock(text);
  if (!parsed.ok) throw new Error(parsed.message);
  return parsed.block;
}

export const podOf = ({
  namespace,
  serviceAccount,
  labels,
  namespaceLabels,
}: InventoryWorkload): CiliumPeer => ({
  namespace,
  serviceAccount,
  labels,
  namespaceLabels,
});

interface Asker {
  readonly peer: CiliumPeer;
  readonly sources: readonly (string | undefined)[];
  readonly sourceIp: string;
  readonly sourceWorkload?: AccessRequest['sourceWorkload'];
  readonly isJudged: boolean;
}

/** Pods of the inventory with all that they hold, pods that nobody knows, and addresses outside with any identity. */
function askers({ workloads }: InventoryContent): readonly Asker[] {
  const strange = [undefined, 'spiffe://td.evil/ns/a/sa/x', 'spiffe://td/y', 'spiffe://td/ns/unknown/sa/x'];
  return [
    ...workloads.map((one) => ({
      peer: podOf(one),
      sources: one.spiffeIds.length === 0 ? [undefined] : one.spiffeIds,
      sourceIp: POD_IP,
      sourceWorkload: { labels: one.labels },
      isJudged: true,
    })),
    ...['unknown', 'ab'].map((namespace) => ({
      peer: {
        namespace,
        serviceAccount: 'stranger',
        // As Kubernetes sees it, a pod with the labels of a workload is one of its pods: so this one has others.
        labels: { app: 'stranger' },
        namespaceLabels: { team: 'blue' },
      },
      sources: namespace === 'ab' ? ['spiffe://td/ns/ab/sa/stranger'] : strange,
      sourceIp: POD_IP,
      isJudged: false,
    })),
    ...WORLD.ips.flatMap((ip) => [
      { peer: { ip }, sources: [undefined], sourceIp: ip, isJudged: true },
      { peer: { ip }, sources: strange, sourceIp: ip, isJudged: false },
    ]),
  ];
}

const PORTS = [...WORLD.ports, WORLD.strayPort, 4321];

/** Connections to the workloads of an inventory, and with `http` the requests in them. */
export function connections(
  content: InventoryContent,
  http: fc.Arbitrary<HttpRequest> | undefined,
  count: number,
): fc.Arbitrary<readonly Connection[]> {
  const one = fc
    .record({
      asker: pick(askers(content)),
      target: pick(content.workloads),
      port: pick(PORTS),
      spoken: http === undefined ? fc.constant(undefined) : fc.option(http, { nil: undefined, freq: 6 }),
    })
    .map(({ asker, target, port, spoken }): Connection => {
      const { peer, sources, sourceIp, sourceWorkload, isJudged } = asker;
      // What is declared as TCP speaks no HTTP.
      const said = port === WORLD.ports[1] ? undefined : spoken;
      return {
        asked: { from: peer, to: podOf(target), port, ...(said === undefined ? {} : { http: said }) },
        requests: sources.map((source) => ({
          source,
          sourceIp,
          ...(sourceWorkload === undefined ? {} : { sourceWorkload }),
          target,
          port,
          ...(said === undefined ? {} : { http: said }),
          time: WORLD.now,
        })),
        isJudged,
      };
    });
  return fc.array(one, { minLength: count, maxLength: count });
}

export const targetName = ({ target }: AccessRequest): string => `${target.namespace}/${target.name}`;

/** What was counted, so that a proof can show that it proves something. */
export interface Tally {
  asked: number;
  allowedByEngine: number;
  allowedByPolicy: number;
  exact: number;
  exactAllowed: number;
  narrower: number;
}

export const newTally = (): Tally => ({
  asked: 0,
  allowedByEngine: 0,
  allowedByPolicy: 0,
  exact: 0,
  exactAllowed: 0,
  narrower: 0,
});

export const contextOf = (set: PolicySet, inventory: Inventory): RenderContext => ({
  set,
  inventory,
  time: WORLD.now,
  zones: new ZoneClock(),
});

/** Renders, asks Cilium, and says every answer that breaks the promise of renderers. */
export async function holdAgainstCilium(
  cilium: Cilium,
  rendering: Rendering,
  inquiry: {
    readonly asked: readonly Connection[];
    /** Whether the policies allow a request. */
    readonly allows: (request: AccessRequest) => boolean;
    /** Whether an exact verdict speaks of this request too. */
    readonly isJudged?: (connection: Connection) => boolean;
    readonly tally: Tally;
  },
): Promise<readonly string[]> {
  const { asked, allows, tally } = inquiry;
  const yaml = rendering.objects.map((object) => JSON.stringify(object)).join('\n---\n');
  const { objects, decisions } = await cilium.decide(
    yaml,
    asked.map((connection) => connection.asked),
  );
  const wrong = objects
    .filter(({ accepted }) => !accepted)
    .map(({ kind, name, error }) => `refused: ${kind} ${name}: ${error ?? ''}`);
  for (const [index, connection] of asked.entries()) {
    const decision = decisions[index]?.decision;
    if (decision === 'error' || decision === undefined)
      wrong.push(`no answer: ${JSON.stringify(decisions[index])}`);
    const judged = connection.isJudged && inquiry.isJudged?.(connection) !== false;
    for (const request of connection.requests) {
      const engine = decision === 'allow';
      const policy = allows(request);
      const exact = judged && isExact(rendering, request);
      count(tally, { engine, policy, exact, judged });
      const shown = JSON.stringify({
        ...request,
        target: targetName(request),
        from: connection.asked.from,
      });
      if (engine && !policy) wrong.push(`wider: ${shown}`);
      if (exact && engine !== policy) wrong.push(`not exact: ${shown}`);
    }
  }
  return wrong;
}

function count(
  tally: Tally,
  { engine, policy, exact, judged }: Readonly<Record<'engine' | 'policy' | 'exact' | 'judged', boolean>>,
): void {
  tally.asked += 1;
  tally.allowedByEngine += Number(engine);
  tally.allowedByPolicy += Number(policy);
  tally.exact += Number(exact);
  tally.exactAllowed += Number(exact && policy);
  tally.narrower += Number(judged && !exact);
}

const isExact = ({ verdicts }: Rendering, request: AccessRequest): boolean =>
  verdicts
    .filter(({ targets }) => targets === undefined || targets.includes(targetName(request)))
    .every(({ fidelity }) => fidelity === 'Exact');

export const allowedBy =
  (set: PolicySet) =>
  (request: AccessRequest): boolean =>
    evaluate(set, request).allowed;
