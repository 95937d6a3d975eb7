import { Command } from 'commander';
import type { TrustDomain } from '../../resources/identity.js';
import { SIGNET_KINDS, type SignetKind } from '../../resources/kinds.js';
import type { Condition } from '../../resources/meta.js';
import { ApiError } from '../../store/kubernetes/api-error.js';
import type { KubernetesApi } from '../../store/kubernetes/api.js';
import { listAll } from '../../store/kubernetes/list.js';
import { collectionPath } from '../../store/kubernetes/resource-type.js';
import { signetType } from '../../store/kubernetes/types.js';
import type { StoredObject } from '../../store/store.js';
import { addClusterOptions, withCluster, type ClusterFlags } from '../cluster.js';
import { signetPods, signetWorkloads, type SignetPod, type SignetWorkload } from '../installation.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, distance, outputOption, printable, table, type OutputFormat } from '../output.js';

interface StatusOptions extends ClusterFlags {
  readonly output: OutputFormat;
}

/** A resource as the API server has it, with what Signet says of it. */
interface Reported extends StoredObject {
  readonly status?: {
    readonly conditions?: readonly Condition[];
    readonly podsSelected?: number;
    readonly svidsIssued?: number;
  };
}

/** Something that is not as it should be. */
interface Trouble {
  /** e.g. `WorkloadIdentity shop/web`. */
  readonly about: string;
  readonly reason: string;
  readonly message: string;
}

interface Status {
  readonly trustDomains: readonly TrustDomain[];
  readonly workloads: readonly SignetWorkload[];
  readonly resources: readonly {
    readonly kind: SignetKind;
    readonly count: number;
    readonly ready: number;
  }[];
  readonly podsSelected: number;
  readonly svidsIssued: number;
  readonly troubles: readonly Trouble[];
}

/** `signet status`. */
export function statusCommand(io: CliIo): Command {
  const command = new Command('status').description(
    'Say how Signet is in a cluster: trust domain and authorities, servers, agents, resources, and whatever is not as it should be. Exit code 1 when something is not.',
  );
  return addClusterOptions(command)
    .addOption(outputOption())
    .action(async (options: StatusOptions) => {
      const status = await withCluster(io, options, (api) => readStatus(api, io.signal));
      answer(io, options.output, status, () => statusText(status, io.clock.now()));
      if (status.troubles.length > 0) throw new ExitWith(EXIT.negative);
    });
}

async function readStatus(api: KubernetesApi, signal: AbortSignal): Promise<Status> {
  const kinds = Object.keys(SIGNET_KINDS) as readonly SignetKind[];
  const [workloads, servers, agents, ...lists] = await Promise.all([
    signetWorkloads(api, signal),
    signetPods(api, 'server', signal),
    signetPods(api, 'agent', signal),
    ...kinds.map((kind) => reportedOf(api, kind, signal)),
  ]);
  const all = lists.flat();
  const sum = (of: 'podsSelected' | 'svidsIssued'): number =>
    all.reduce((total, { status }) => total + (status?.[of] ?? 0), 0);
  return {
    trustDomains: all.filter(({ kind }) => kind === 'TrustDomain') as unknown as readonly TrustDomain[],
    workloads,
    resources: kinds.map((kind, index) => {
      const list = lists[index] ?? [];
      return {
        kind,
        count: list.length,
        ready: list.filter((one) => readyOf(one)?.status === 'True').length,
      };
    }),
    podsSelected: sum('podsSelected'),
    svidsIssued: sum('svidsIssued'),
    troubles: [
      ...missing(workloads, all),
      ...[...servers, ...agents].flatMap(troubleOfPod),
      ...all.flatMap(troubleOf),
    ],
  };
}

async function reportedOf(
  api: KubernetesApi,
  kind: SignetKind,
  signal: AbortSignal,
): Promise<readonly Reported[]> {
  const type = signetType(kind);
  try {
    const { objects } = await listAll(api, collectionPath(type), { query: {} }, (object) => object, signal);
    return objects;
  } catch (thrown) {
    if (ApiError.from(thrown).code !== 'ApiNotFound') throw thrown;
    throw new ApiError(
      'ApiNotFound',
      `the API server does not serve ${type.plural}.${type.group}: Signet is not installed, or is older than this program`,
      { cause: thrown },
    );
  }
}

function readyOf({ status }: Reported): Condition | undefined {
  return status?.conditions?.find(({ type }) => type === 'Ready');
}

function missing(workloads: readonly SignetWorkload[], all: readonly Reported[]): readonly Trouble[] {
  const found = new Set(workloads.map(({ component }) => component));
  const troubles: Trouble[] = [];
  if (!found.has('server'))
    troubles.push({ about: 'server', reason: 'Missing', message: 'no Deployment of the server is there' });
  if (!found.has('agent'))
    troubles.push({ about: 'agent', reason: 'Missing', message: 'no DaemonSet of the agent is there' });
  if (!all.some(({ kind }) => kind === 'TrustDomain'))
    troubles.push({
      about: 'TrustDomain',
      reason: 'Missing',
      message: 'there is none, so nobody is signed for',
    });
  for (const { component, namespace, name, desired, ready } of workloads)
    if (ready < desired)
      troubles.push({
        about: `${component} ${namespace}/${name}`,
        reason: 'NotReady',
        message: `${ready} of ${desired} are ready`,
      });
  return troubles;
}

function troubleOfPod({ component, namespace, name, ready, problem, node }: SignetPod): readonly Trouble[] {
  if (ready) return [];
  const where = node === '' ? '' : ` on node ${node}`;
  return [
    {
      about: `${component} pod ${namespace}/${name}${where}`,
      reason: 'NotReady',
      message: problem ?? 'not ready',
    },
  ];
}

/** Where nothing is said of an object, no server has looked at it. */
function troubleOf(object: Reported): readonly Trouble[] {
  const { namespace, name, generation } = object.metadata;
  const about = `${object.kind} ${namespace === undefined ? name : `${namespace}/${name}`}`;
  const conditions = object.status?.conditions ?? [];
  if (conditions.length === 0) {
    // Kinds that Signet only reads have no status.
    if (!REPORTED.has(object.kind)) return [];
    return [{ about, reason: 'NotSeen', message: 'no server has said anything of it yet' }];
  }
  return conditions
    .filter(
      ({ status, observedGeneration }) =>
        status !== 'True' || (observedGeneration ?? generation) < generation,
    )
    .map(({ type, status, reason, message }) => ({
      about,
      reason: status === 'True' ? `${type} is of an older generation` : reason,
      message,
    }));
}

const REPORTED: ReadonlySet<string> = new Set<SignetKind>([
  'TrustDomain',
  'WorkloadIdentity',
  'ClusterWorkloadIdentity',
  'AccessPolicy',
  'ClusterAccessPolicy',
]);

function statusText(status: Status, now: number): string {
  const lines: string[] = [];
  for (const { spec, status: told } of status.trustDomains) {
    lines.push(`trust domain ${spec.name}`);
    for (const { kind, slot, notAfter, tainted } of told?.authorities ?? [])
      if (slot === 'Active')
        lines.push(
          `  ${kind === 'X509' ? 'X.509' : 'JWT'} authority until ${notAfter} (${distance(now, Date.parse(notAfter))})${tainted ? ', tainted' : ''}`,
        );
  }
  const parts = status.workloads.map(({ component, namespace, name, desired, ready }) => [
    component,
    `${namespace}/${name}`,
    `${ready}/${desired} ready`,
  ]);
  if (parts.length > 0) lines.push(table(['PART', 'NAME', 'STATE'], parts));
  const used = status.resources.filter(({ count }) => count > 0);
  if (used.length > 0)
    lines.push(
      table(
        ['RESOURCES', 'COUNT', 'READY'],
        used.map(({ kind, count, ready }) => [kind, String(count), REPORTED.has(kind) ? String(ready) : '-']),
      ),
    );
  lines.push(`pods with an identity: ${status.podsSelected}, SVIDs: ${status.svidsIssued}`);
  if (status.troubles.length === 0) return [...lines, 'all is well'].join('\n');
  return [
    ...lines,
    `not as it should be (${status.troubles.length}):`,
    ...status.troubles.map(({ about, reason, message }) => printable(`  ${about}: ${reason}: ${message}`)),
  ].join('\n');
}
