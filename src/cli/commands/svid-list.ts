import { Command } from 'commander';
import { readRegistrations } from '../../cluster/registrations.js';
import { findTrustDomain, trustDomainSettings } from '../../cluster/trust-domain.js';
import { podFacts } from '../../cluster/pod-facts.js';
import type { RegistrationIndex } from '../../identity/registration/registration-index.js';
import type { PodFacts } from '../../identity/registration/registration.js';
import { formatDuration } from '../../lib/duration.js';
import type { Store } from '../../store/store.js';
import { addClusterOptions, readCurrentCluster, type ClusterFlags } from '../cluster.js';
import type { CliIo } from '../io.js';
import { answer, outputOption, table, type OutputFormat } from '../output.js';
import { openResources, RESOURCES_OR_CLUSTER } from '../resource-files.js';
import { trustDomainOption } from '../access-source.js';

interface ListOptions extends ClusterFlags {
  readonly namespace?: string;
  readonly trustDomain?: string;
  readonly output: OutputFormat;
}

/** An identity that a pod gets, or why it gets none. */
interface Listed {
  readonly namespace: string;
  readonly pod: string;
  readonly node: string;
  readonly spiffeID?: string;
  /** The resource that gives it, e.g. `WorkloadIdentity shop/web`. */
  readonly identity?: string;
  readonly hint?: string;
  readonly x509TTL?: string;
  readonly reason?: string;
}

/** `signet svid list`. */
export function svidListCommand(io: CliIo): Command {
  const command = new Command('list')
    .description(
      'Say which SPIFFE IDs the pods of a cluster get, by which identity, and for each that gets none, why.',
    )
    .argument('[path]', RESOURCES_OR_CLUSTER)
    .option('-n, --namespace <name>', 'only the pods of this namespace');
  return addClusterOptions(command)
    .addOption(trustDomainOption())
    .addOption(outputOption())
    .action(async (path: string | undefined, options: ListOptions) => {
      const svids = path === undefined ? await inCluster(io, options) : await inFiles(io, path, options);
      answer(io, options.output, { svids }, () => listText(svids));
    });
}

async function inCluster(io: CliIo, options: ListOptions): Promise<readonly Listed[]> {
  return listOf(await readCurrentCluster(io, options), options);
}

async function inFiles(io: CliIo, path: string, options: ListOptions): Promise<readonly Listed[]> {
  const store = await openResources(io, path);
  try {
    // Pods in files run nowhere.
    return listOf(store, options).map((one) => ({ ...one, node: '' }));
  } finally {
    store.close();
  }
}

function listOf(store: Store, { namespace, trustDomain }: ListOptions): readonly Listed[] {
  const resource = findTrustDomain(store);
  const settings = trustDomainSettings({
    ...(resource === undefined ? {} : { resource }),
    ...(trustDomain === undefined ? {} : { flag: trustDomain }),
  });
  const index = readRegistrations(store, settings);
  return store
    .list('Pod')
    .map((object) => podFacts(object))
    .filter((pod) => pod !== undefined)
    .filter((pod) => namespace === undefined || pod.namespace === namespace)
    .sort((a, b) => compare(a.namespace, b.namespace) || compare(a.name, b.name))
    .flatMap((pod) => identitiesOf(pod, index));
}

function identitiesOf(
  { uid, namespace, name, nodeName }: PodFacts,
  index: RegistrationIndex,
): readonly Listed[] {
  const about = { namespace, pod: name, node: nodeName };
  const registrations = index.forPod(uid);
  if (registrations.length === 0) return [{ ...about, reason: index.explainPod(uid) }];
  return registrations.map(({ spiffeId, identity, hint, x509TtlSeconds }) => ({
    ...about,
    spiffeID: spiffeId.uri,
    identity: `${identity.kind} ${identity.namespace === '' ? '' : `${identity.namespace}/`}${identity.name}`,
    ...(hint === '' ? {} : { hint }),
    x509TTL: formatDuration(x509TtlSeconds),
  }));
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function listText(svids: readonly Listed[]): string {
  if (svids.length === 0) return 'no pods';
  return table(
    ['NAMESPACE', 'POD', 'NODE', 'SPIFFE ID', 'IDENTITY', 'TTL'],
    svids.map(({ namespace, pod, node, spiffeID, identity, x509TTL, reason }) => [
      ...[namespace, pod, node === '' ? '-' : node],
      ...(spiffeID === undefined ? [`none: ${reason ?? ''}`] : [spiffeID, identity ?? '', x509TTL ?? '']),
    ]),
  );
}
