import { effectivePolicy, type EffectivePorts } from '../../policy/effective.js';
import type { Policy } from '../../policy/model.js';
import { normalisePath } from '../../policy/path.js';
import { parseIpBlock } from '../../../lib/ip-address.js';
import type { Grant } from '../admission.js';
import type { InventoryWorkload, PortProtocol, WorkloadPort } from '../inventory.js';
import { connectionGrants } from '../layers.js';
import { objectMetadata } from '../objects.js';
import { selectionOf, type Selection } from '../pod-selector.js';
import type { KubernetesObject, RenderContext, RenderedPart, Renderer } from '../renderer.js';
import { VerdictBook } from '../verdict-book.js';
import { CLOSED, closeAll, entangled, groupOf, openEntries, type EntryWords } from '../workload-rules.js';
import { httpCells } from './cells.js';
import { identityForm } from './identities.js';
import { authorization, routes, serverName, type PortNames, type RouteApi } from './objects.js';

export interface LinkerdOptions {
  /** Where Linkerd's control plane is installed: part of every identity. `linkerd` unless said. */
  readonly controlPlaneNamespace?: string;
  /** Linkerd's own trust domain, which stands for that of the inventory: part of every identity. `cluster.local` unless said. */
  readonly identityTrustDomain?: string;
  /** The group of HTTPRoute. Linkerd's own unless said. */
  readonly routeApi?: RouteApi;
  /**
   * The blocks of addresses that the kubelets' probes come from. None unless said: then probes of HTTP are denied, since
   * nobody can be told from the kubelet.
   */
  readonly probeNetworks?: readonly string[];
}

const PROTOCOLS: Readonly<Record<PortProtocol, string>> = {
  http: 'HTTP/1',
  http2: 'HTTP/2',
  // HTTPRoutes hold on HTTP/2; a Server of gRPC would take GRPCRoutes only.
  grpc: 'HTTP/2',
  tcp: 'opaque',
};

/**
 * Linkerd: a Server for each port of each workload, which closes it; routes for what HTTP may be asked; and an
 * AuthorizationPolicy for whom it may be asked by. Linkerd has no Deny, so what is denied is not allowed.
 */
export function linkerdRenderer(options: LinkerdOptions = {}): Renderer {
  const { controlPlaneNamespace = 'linkerd', identityTrustDomain = 'cluster.local' } = options;
  const { routeApi = 'policy.linkerd.io' } = options;
  const probeNetworks = readNetworks(options.probeNetworks ?? []);
  return {
    mesh: 'linkerd',
    renderWorkload(workload, context) {
      const { trustDomain } = context.inventory;
      const identities = identityForm({ trustDomain, controlPlaneNamespace, identityTrustDomain });
      const effective = effectivePolicy(context.set, workload, context.time, context.zones);
      const book = new VerdictBook(workload);
      const enforced = effective.policies.filter(({ mode }) => mode === 'Enforce');
      openEntries(workload, effective.policies, wordsOf(workload), book);
      const selection = selectionOf(workload, context.inventory);
      const twin = entangled(workload, selection, true, context);
      if (twin !== undefined) {
        const reason = `pods of ${twin.namespace}/${twin.name} carry the same labels, so both are closed; give each a label of its own`;
        closeAll(enforced, reason, book);
      }
      const objects = workload.ports.flatMap((port) => {
        const names: PortNames = {
          namespace: workload.namespace,
          workload: workload.name,
          port: port.port,
          policies: enforced.map(({ ref }) => ref),
          identities,
          routeApi,
        };
        const group = twin === undefined ? groupOf(effective.groups, port.port) : CLOSED;
        const opened = openings(names, { port, group, workload, probeNetworks, context, book });
        // Two routes may require the same authentication, which is one object.
        const once = new Map(opened.map((object) => [`${object.kind}/${object.metadata.name}`, object]));
        return [server(names, port, selection), ...once.values()];
      });
      const part: RenderedPart = { objects, verdicts: book.verdicts() };
      return effective.until === undefined ? part : { ...part, until: effective.until };
    },
  };
}

/** What is said of every policy. */
function wordsOf({ ports }: InventoryWorkload): EntryWords {
  const http =
    'paths in another spelling than the canonical one are denied, and so are methods that HTTPRoute does not know; the request target "*" of OPTIONS is let through with "/"';
  return {
    audit:
      'mode: Audit: Linkerd audits whole Servers only, and lets everything through meanwhile, so it is not rendered',
    conditions: [
      'ports that the workload does not declare follow config.linkerd.io/default-inbound-policy; set it to "deny" on the namespace',
      ...(ports.some(({ protocol }) => protocol !== 'tcp') ? [http] : []),
    ],
    strayPorts: 'so there is no Server for it',
  };
}

interface PortPart {
  readonly port: WorkloadPort;
  readonly group: EffectivePorts;
  readonly workload: InventoryWorkload;
  readonly probeNetworks: Grant['networks'];
  readonly context: RenderContext;
  readonly book: VerdictBook;
}

/** Who is let in to a port. */
function openings(
  names: PortNames,
  { port, group, workload, probeNetworks, context, book }: PortPart,
): readonly KubernetesObject[] {
  const { ability } = names.identities;
  if (port.protocol === 'tcp') {
    const target = { group: 'policy.linkerd.io', kind: 'Server', name: serverName(names) };
    return connectionGrants(group, ability, context.inventory, book).flatMap((grant) =>
      authorization(names, target, grant),
    );
  }
  const paths = (workload.probes ?? []).flatMap((probe) => {
    if (probe.port !== port.port) return [];
    // Linkerd compares an exact path without the query.
    const normal = normalisePath(probe.path);
    return normal.ok ? [normal.path] : [];
  });
  const probes =
    probeNetworks === undefined || paths.length === 0
      ? undefined
      : { paths, grant: { networks: probeNetworks } };
  noteProbes(paths, port.port, probes !== undefined, context.set.concerning(workload), book);
  return routes(names, httpCells({ group, ability, inventory: context.inventory, book }, probes));
}

function noteProbes(
  paths: readonly string[],
  port: number,
  open: boolean,
  policies: readonly Policy[],
  book: VerdictBook,
): void {
  for (const policy of policies) {
    if (policy.mode !== 'Enforce') continue;
    for (const path of paths) {
      book.condition(
        policy,
        undefined,
        open
          ? `GET ${path} on port ${port} is open to the networks of the kubelets' probes, whatever the policies say`
          : `the kubelet's probe GET ${path} on port ${port} is denied, since any route ends Linkerd's own allowance; name the networks of the kubelets`,
      );
    }
  }
}

/** The Server that closes a port. */
function server(
  names: PortNames,
  { port, protocol }: WorkloadPort,
  { selector }: Selection,
): KubernetesObject {
  return {
    apiVersion: 'policy.linkerd.io/v1beta3',
    kind: 'Server',
    metadata: objectMetadata(serverName(names), names.namespace, names.policies),
    spec: { podSelector: selector, port, proxyProtocol: PROTOCOLS[protocol], accessPolicy: 'deny' },
  };
}

function readNetworks(texts: readonly string[]): Grant['networks'] {
  if (texts.length === 0) return undefined;
  return texts.map((text) => {
    const parsed = parseIpBlock(text);
    if (!parsed.ok) throw new TypeError(`probeNetworks: ${text}: ${parsed.message}`);
    return { block: parsed.block, except: [] };
  });
}
