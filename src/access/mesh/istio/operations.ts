import type { Effect, NetworkOperation, Operation } from '../../policy/model.js';
import type { RuleNotes } from './findings.js';
import { EVERY_PORT, type Dialect, type IstioCondition, type IstioOperation } from './language.js';
import { istioPaths } from './paths.js';
import { headerConditions, joined, tokenConditions, type Conditions } from './values.js';

/** Operations that go with the same conditions: Istio has these on the rule as a whole. */
export interface OperationGroup {
  readonly when: readonly IstioCondition[];
  /** Absent means every operation. */
  readonly operations?: readonly IstioOperation[];
}

/** On which ports something holds. */
export type PortScope = { readonly ports: readonly number[] } | { readonly notPorts: readonly number[] };

/** What a rule is about, on some ports; an empty list is nothing. */
export function istioOperations(
  operations: readonly Operation[] | undefined,
  scope: PortScope,
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): readonly OperationGroup[] {
  const groups = new Map<string, { when: readonly IstioCondition[]; operations: IstioOperation[] }>();
  for (const operation of operations ?? [{ kind: 'network' } as const]) {
    if (operation.kind === 'action') continue;
    const ports = portFields(operation.ports, scope);
    const rest = ports === undefined ? undefined : translate(operation, effect, dialect, notes);
    if (ports === undefined || rest === undefined) continue;
    // On a TCP port Istio leaves out a whole ALLOW rule of which one operation speaks of HTTP.
    const key = JSON.stringify([rest.when, effect === 'Allow' && Object.keys(rest.fields).length > 0]);
    const group = groups.get(key) ?? { when: rest.when, operations: [] };
    const said = { ...rest.fields, ...ports };
    // A DENY rule always says its ports, or it would hold for every TCP port unseen.
    group.operations.push(
      effect === 'Deny' && !('ports' in ports || 'notPorts' in ports) ? { ...EVERY_PORT, ...said } : said,
    );
    groups.set(key, group);
  }
  return [...groups.values()].map(({ when, operations: list }) =>
    list.some((one) => Object.keys(one).length === 0) ? { when } : { when, operations: list },
  );
}

/** Everything on some ports. */
export function scopeOperation(scope: PortScope): IstioOperation {
  if ('ports' in scope) return { ports: scope.ports.map(String) };
  return scope.notPorts.length === 0 ? EVERY_PORT : { notPorts: scope.notPorts.map(String) };
}

/** The ports of an operation within a scope; undefined when there are none. */
function portFields(
  ports: readonly number[] | undefined,
  scope: PortScope,
): Pick<IstioOperation, 'ports' | 'notPorts'> | undefined {
  if ('ports' in scope) {
    const both = ports === undefined ? scope.ports : scope.ports.filter((port) => ports.includes(port));
    return both.length === 0 ? undefined : { ports: both.map(String) };
  }
  if (ports === undefined) return scope.notPorts.length === 0 ? {} : { notPorts: scope.notPorts.map(String) };
  const left = ports.filter((port) => !scope.notPorts.includes(port));
  return left.length === 0 ? undefined : { ports: left.map(String) };
}

interface Translated {
  readonly fields: IstioOperation;
  readonly when: readonly IstioCondition[];
}

/** The HTTP part; undefined when it matches nothing, or when an Allow rule cannot say it. */
function translate(
  operation: NetworkOperation,
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): Translated | undefined {
  const { methods, hosts, paths, headers, query, grantedBy } = operation;
  if (dialect.mode === 'ambient') {
    const http = [methods, hosts, paths, headers, query, grantedBy?.claim];
    if (http.every((field) => field === undefined)) return { fields: {}, when: [] };
    notes.lost('ztunnel sees connections, not HTTP; put a waypoint in front for this');
    return effect === 'Allow' ? undefined : { fields: {}, when: [] };
  }
  if (query !== undefined) {
    notes.lost('Istio cannot compare query parameters');
    if (effect === 'Allow') return undefined;
  }
  const when = operationConditions(operation, effect, dialect, notes);
  if (when === undefined) return undefined;
  const istioPath = paths === undefined ? undefined : istioPaths(paths, effect, notes);
  if (istioPath?.length === 0) return undefined;
  const istioHost = hosts === undefined ? undefined : istioHosts(hosts, effect, notes);
  return {
    fields: {
      ...(istioHost === undefined ? {} : { hosts: istioHost }),
      ...(methods === undefined ? {} : { methods }),
      ...(istioPath === undefined ? {} : { paths: istioPath }),
    },
    when,
  };
}

/** What Istio has on the rule as a whole. */
function operationConditions(
  { headers = [], grantedBy }: NetworkOperation,
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): Conditions {
  const claim = grantedBy?.claim;
  const parts = headers.map((header) => headerConditions(header, effect, notes));
  if (claim !== undefined) parts.push(tokenConditions({ claims: [claim] }, effect, dialect, notes));
  return joined(parts);
}

/**
 * Hosts with every spelling that means the same host: a dot at the end, and any port. What stands behind the colon is a
 * port, because request-form.ts refuses everything else.
 */
function istioHosts(
  hosts: readonly string[],
  effect: Effect,
  notes: RuleNotes,
): readonly string[] | undefined {
  const result = new Set<string>();
  for (const host of hosts) {
    if (!host.startsWith('*.')) for (const form of ['', '.', ':*', '.:*']) result.add(`${host}${form}`);
    else {
      notes.lost(`Istio compares the end of a host, so ${host} cannot be said together with a port`);
      if (effect === 'Deny') return undefined;
      for (const form of ['', '.']) result.add(`${host}${form}`);
    }
  }
  return [...result];
}
