import { sleep, type Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { WatchedValue, type Watched } from '../../lib/watched.js';
import type { KubernetesApi } from './api.js';
import { ApiError } from './api-error.js';
import { runReflector } from './reflector.js';
import type { ResourceType } from './resource-type.js';
import { CUSTOM_RESOURCE_DEFINITION } from './types.js';

/** What the API server serves. A value: another one takes its place when something changes. */
export interface ServedTypes {
  readonly all: readonly ResourceType[];
  /** The kind in the version that the API server prefers, or in the one said. */
  find(group: string, kind: string, version?: string): ResourceType | undefined;
}

/** Which kinds the API server serves, now. */
export interface Discovery {
  /** Undefined until it was read once. What could not be read anew stays. */
  readonly types: Watched<ServedTypes | undefined>;
  /** Something says that there may be others: reads soon. */
  refresh(): void;
  /** Reads at once, then now and then, and when a CustomResourceDefinition changes; until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
}

/** What discovery is made of. */
export interface DiscoveryOptions {
  readonly api: KubernetesApi;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Between readings when nothing happens; a minute unless said. Milliseconds. */
  readonly periodMs?: number;
  /** Follows CustomResourceDefinitions, which needs the right to list and watch them; true unless said. */
  readonly followCrds?: boolean;
}

const PERIOD_MS = 60_000;
/** After a change of a CRD: the API server serves it a moment later, sometimes two. */
const SOON_MS = [200, 2_000] as const;
/** Aggregated discovery (KEP-3352): all groups in one answer. Served since Kubernetes 1.27. */
const ACCEPT = ['v2', 'v2beta1']
  .map((version) => `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`)
  .join(',');

/** Nothing is read before it runs. */
export function createDiscovery(options: DiscoveryOptions): Discovery {
  const { api, clock, random, logger, periodMs = PERIOD_MS, followCrds = true } = options;
  const types = new WatchedValue<ServedTypes | undefined>(undefined);
  let wake: (() => void) | undefined;
  let again = false;
  let complaint = '';
  /** Types that the last reading missed. */
  let missed: readonly ResourceType[] = [];

  const refresh = (): void => {
    again = true;
    wake?.();
  };
  /** Resolves with whether it is sure of what it has read. */
  const read = async (signal: AbortSignal): Promise<boolean> => {
    try {
      const answers = await Promise.all(
        ['/api', '/apis'].map((path) => api.send({ method: 'GET', path, accept: ACCEPT, signal })),
      );
      const found = readTypes(answers, types.value?.all ?? []);
      // An API server that has just started does not know its CRDs yet: what it misses must be missing twice.
      const lost = without(types.value?.all ?? [], found);
      const doubtful = without(lost, missed);
      missed = lost;
      complaint = '';
      const all = [...found, ...doubtful].sort(byGroup);
      if (types.value === undefined || textOf(types.value.all) !== textOf(all)) types.set(servedTypes(all));
      return doubtful.length === 0;
    } catch (thrown) {
      if (signal.aborted) return false;
      const { code, message } = ApiError.from(thrown);
      if (code !== complaint)
        logger.warn('what the API server serves cannot be read; what is known stays, and it is tried again', {
          code,
          reason: message,
        });
      complaint = code;
      return types.value !== undefined;
    }
  };
  const readAgain = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      again = false;
      const sure = await read(signal);
      if (again) continue;
      const waitMs = sure ? periodMs * (0.9 + 0.2 * random.fraction()) : SOON_MS[1];
      const waiting = new AbortController();
      const end = (): void => waiting.abort();
      wake = end;
      signal.addEventListener('abort', end, { once: true });
      await sleep(clock, waitMs, waiting.signal).catch(() => undefined);
      signal.removeEventListener('abort', end);
      wake = undefined;
    }
  };
  const follow = async (signal: AbortSignal): Promise<void> => {
    let timers: readonly { cancel(): void }[] = [];
    const soon = (): void => {
      timers.forEach((timer) => timer.cancel());
      timers = SOON_MS.map((ms) => clock.after(ms, refresh));
    };
    await runReflector(
      {
        ...{ api, clock, random, logger, metadataOnly: true },
        type: CUSTOM_RESOURCE_DEFINITION,
        // Nothing of it is kept.
        trim: (object) => object,
        sink: { replace: soon, put: soon, remove: soon },
      },
      signal,
    );
    timers.forEach((timer) => timer.cancel());
  };
  return {
    types,
    refresh,
    async run(signal) {
      await Promise.all([readAgain(signal), followCrds ? follow(signal) : undefined]);
    },
  };
}

interface Group {
  readonly metadata?: { readonly name?: string };
  readonly versions?: readonly {
    readonly version: string;
    readonly freshness?: string;
    readonly resources?: readonly {
      readonly resource: string;
      readonly responseKind?: { readonly kind?: string };
      readonly scope?: string;
      readonly verbs?: readonly string[];
    }[];
  }[];
}

/** Kinds that can be listed. Of an aggregated API server that does not answer (`Stale`), what was known stays. */
function readTypes(answers: readonly unknown[], former: readonly ResourceType[]): readonly ResourceType[] {
  return answers.flatMap((answer) => {
    const { kind, items } = answer as { readonly kind?: unknown; readonly items?: readonly Group[] };
    if (kind !== 'APIGroupDiscoveryList')
      throw new ApiError(
        'ApiAnswerUnusable',
        'the API server has no aggregated discovery: Kubernetes 1.27 or later is needed',
      );
    return (items ?? []).flatMap((group) => typesOf(group, former));
  });
}

function servedTypes(all: readonly ResourceType[]): ServedTypes {
  const byKind = new Map<string, ResourceType>();
  for (const type of all) {
    const short = `${type.group}/${type.kind}`;
    // Versions come in the order of preference.
    if (!byKind.has(short)) byKind.set(short, type);
    byKind.set(`${short}/${type.version}`, type);
  }
  return {
    all,
    find: (group, kind, version) =>
      byKind.get(version === undefined ? `${group}/${kind}` : `${group}/${kind}/${version}`),
  };
}

function typesOf({ metadata, versions = [] }: Group, former: readonly ResourceType[]): ResourceType[] {
  const group = metadata?.name ?? '';
  return versions.flatMap(({ version, freshness, resources = [] }) => {
    if (freshness === 'Stale') {
      const known = former.filter((type) => type.group === group && type.version === version);
      if (known.length > 0) return known;
    }
    return resources.flatMap(({ resource: plural, responseKind, scope, verbs = [] }): ResourceType[] => {
      const kind = responseKind?.kind;
      if (kind === undefined || (scope !== 'Namespaced' && scope !== 'Cluster')) return [];
      return verbs.includes('list') ? [{ kind, group, version, plural, scope }] : [];
    });
  });
}

function without(types: readonly ResourceType[], others: readonly ResourceType[]): readonly ResourceType[] {
  const known = new Set(others.map((type) => textOf([type])));
  return types.filter((type) => !known.has(textOf([type])));
}

/** Within a group the order says which version is preferred; that of groups changes as the API server likes. */
function byGroup(left: ResourceType, right: ResourceType): number {
  if (left.group === right.group) return 0;
  return left.group < right.group ? -1 : 1;
}

function textOf(types: readonly ResourceType[]): string {
  return types
    .map((type) => `${type.group}/${type.version}/${type.kind}/${type.plural}/${type.scope}`)
    .join('\n');
}
