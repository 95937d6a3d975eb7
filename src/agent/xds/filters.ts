import { createHash } from 'node:crypto';
import { denyEverything, envoyFilters, type EnvoyFilters } from '../../access/mesh/envoy/filters.js';
import type { EnvoyIssuer } from '../../access/mesh/envoy/issuers.js';
import { preparingFilter } from '../../access/mesh/envoy/served.js';
import type { InventoryWorkload } from '../../access/mesh/inventory.js';
import type { TargetWorkload } from '../../access/policy/model.js';
import { ZoneClock } from '../../access/policy/time-window.js';
import { envoyMessages } from '../../rpc/envoy-messages.js';
import { TypedExtensionConfig } from '../../rpc/gen/envoy/core/core.js';
import type { Any } from '../../rpc/gen/google/protobuf/any.js';
import type { AuthorizationView } from '../authorization/view.js';
import type { FilterName } from './filter-name.js';

/** The type of everything that is served here. */
export const FILTER_TYPE_URL = 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig';

/** Everything that a workload's filters are made from. */
export interface FilterSources {
  /** Undefined while the policies cannot be read: the filters deny everything then. */
  readonly view: AuthorizationView | undefined;
  readonly target: TargetWorkload | undefined;
  readonly issuers: readonly EnvoyIssuer[];
  /** Milliseconds since the epoch. */
  readonly time: number;
}

/** A filter as it goes to Envoy. */
export interface ServedFilter {
  readonly name: string;
  /** The same for the same configuration. */
  readonly version: string;
  readonly resource: Any;
}

const ZONES = new ZoneClock();

/** Renders filters by their names, and tells at which instant they may be others by themselves. */
export async function serveFilters(
  names: readonly FilterName[],
  sources: FilterSources,
): Promise<{ readonly filters: readonly ServedFilter[]; readonly until: number | undefined }> {
  const { encode } = await envoyMessages();
  const instants: number[] = [];
  const filters = names.map((name): ServedFilter => {
    const rendered = render(name, sources);
    if (rendered?.until !== undefined) instants.push(rendered.until);
    const typedConfig = encode(configOf(name, rendered, sources.issuers));
    const value = Buffer.from(TypedExtensionConfig.encode({ name: name.text, typedConfig }).finish());
    const version = createHash('sha256').update(value).digest('hex').slice(0, 32);
    return { name: name.text, version, resource: { typeUrl: FILTER_TYPE_URL, value } };
  });
  return { filters, until: instants.length === 0 ? undefined : Math.min(...instants) };
}

function render(
  { port, plaintext }: FilterName,
  { view, target, issuers, time }: FilterSources,
): EnvoyFilters | undefined {
  if (view === undefined || target === undefined) return undefined;
  // Its ports and IDs have no say in what is rendered, only in what is told about it.
  const workload: InventoryWorkload = { ...target, spiffeIds: [], ports: [] };
  const { policies: set, inventory } = view;
  // Keys go to the filter that verifies; where Envoy lacks it, or it has no keys yet, tokens are refused.
  const known = issuers.map((issuer) => ({ ...issuer, keysServed: true }));
  const context = { set, inventory, time, zones: ZONES, issuers: known };
  return envoyFilters(workload, context, { plaintext, ...(port === undefined ? {} : { port }) });
}

function configOf(
  { kind }: FilterName,
  rendered: EnvoyFilters | undefined,
  issuers: readonly EnvoyIssuer[],
): Readonly<Record<string, unknown>> {
  if (kind === 'prepare') return preparingFilter(rendered, issuers);
  return rendered === undefined
    ? denyEverything(kind === 'http', 'policies-unreadable')
    : rendered.enforcing[kind];
}
