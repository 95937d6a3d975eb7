import { createHash } from 'node:crypto';
import type { PolicyRef } from '../../policy/model.js';
import type { Grant, Network } from '../admission.js';
import { EVERYWHERE } from '../ip-regions.js';
import { objectMetadata, objectName } from '../objects.js';
import type { KubernetesObject } from '../renderer.js';
import type { Cell } from './cells.js';
import type { IdentityForm } from './identities.js';
import { pathMatch, UNREADABLE } from './paths.js';

const GROUP = 'policy.linkerd.io';

/** The HTTPRoute that is rendered: Linkerd's own, or the Gateway API's. */
export type RouteApi = 'policy.linkerd.io' | 'gateway.networking.k8s.io';
const ROUTE_VERSIONS: Readonly<Record<RouteApi, string>> = {
  'policy.linkerd.io': 'policy.linkerd.io/v1beta3',
  'gateway.networking.k8s.io': 'gateway.networking.k8s.io/v1',
};

/** What the CRD of HTTPRoute takes. */
const MAX_MATCHES = 8;
const MAX_RULES = 16;

/** What the objects of one port have in common. */
export interface PortNames {
  readonly namespace: string;
  readonly workload: string;
  readonly port: number;
  readonly policies: readonly PolicyRef[];
  readonly identities: IdentityForm;
  readonly routeApi: RouteApi;
}

export const serverName = ({ workload, port }: PortNames): string => objectName(workload, String(port));

/**
 * An object by what it says: one that says something else has another name. So no route is ever changed under its
 * authorizations, and while objects are exchanged every one of them says what the old or the new policies say.
 */
function byContent(
  names: PortNames,
  apiVersion: string,
  kind: string,
  spec: Readonly<Record<string, unknown>>,
): KubernetesObject {
  const hash = createHash('sha256')
    .update(JSON.stringify([kind, spec]))
    .digest('hex')
    .slice(0, 12);
  return {
    apiVersion,
    kind,
    metadata: objectMetadata(
      objectName(names.workload, String(names.port), hash),
      names.namespace,
      names.policies,
    ),
    spec,
  };
}

/** Lets somebody in to a Server or a route: the policy, and the authentications that it requires. */
export function authorization(
  names: PortNames,
  target: { readonly group: string; readonly kind: string; readonly name: string },
  grant: Grant,
): readonly KubernetesObject[] {
  const required: KubernetesObject[] = [];
  if (grant.ids !== undefined) {
    required.push(
      byContent(names, `${GROUP}/v1alpha1`, 'MeshTLSAuthentication', {
        identities: names.identities.of(grant.ids),
      }),
    );
  }
  // An authorization that requires nothing lets everybody in; "from everywhere" says the same, and says it.
  const networks = grant.networks ?? (grant.ids === undefined ? everywhere : undefined);
  if (networks !== undefined) {
    required.push(
      byContent(names, `${GROUP}/v1alpha1`, 'NetworkAuthentication', { networks: networks.map(networkOf) }),
    );
  }
  const policy = byContent(names, `${GROUP}/v1alpha1`, 'AuthorizationPolicy', {
    targetRef: target,
    requiredAuthenticationRefs: required.map(({ kind, metadata }) => ({
      group: GROUP,
      kind,
      name: metadata.name,
    })),
  });
  return [...required, policy];
}

const everywhere: readonly Network[] = EVERYWHERE.map((block) => ({ block, except: [] }));

function networkOf({ block, except }: Network): Readonly<Record<string, unknown>> {
  return { cidr: block.text, ...(except.length === 0 ? {} : { except: except.map(({ text }) => text) }) };
}

/** The routes of a port: those of the cells, by who may use them, and the one for what is never let through. */
export function routes(names: PortNames, cells: readonly Cell[]): readonly KubernetesObject[] {
  const unreadable = route(names, [{ path: { type: 'RegularExpression', value: UNREADABLE } }]);
  const groups = Map.groupBy(cells, ({ grants }) => JSON.stringify(grants));
  const objects = [...groups.values()].flatMap((group) =>
    chunks(group, MAX_MATCHES * MAX_RULES).flatMap((part) => {
      const object = route(
        names,
        part.map(({ method, path }) => ({ path: pathMatch(path), method })),
      );
      const target = { group: names.routeApi, kind: 'HTTPRoute', name: object.metadata.name };
      return [object, ...(part[0]?.grants ?? []).flatMap((grant) => authorization(names, target, grant))];
    }),
  );
  return [unreadable, ...objects];
}

function route(names: PortNames, matches: readonly object[]): KubernetesObject {
  return byContent(names, ROUTE_VERSIONS[names.routeApi], 'HTTPRoute', {
    parentRefs: [{ group: GROUP, kind: 'Server', name: serverName(names) }],
    rules: chunks(matches, MAX_MATCHES).map((part) => ({ matches: part })),
  });
}

function chunks<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}
