import { SignetError } from '../../lib/errors.js';
import type {
  ClusterWorkloadIdentity,
  IdentityRequirements,
  KeyTypeName,
  WorkloadIdentity,
} from '../../resources/identity.js';
import { labelSelectorProblem } from '../../resources/selector.js';
import type { LabelSelector } from '../../resources/meta.js';
import { parseDuration } from '../../lib/duration.js';
import { parseTrustDomain } from '../spiffe/id.js';
import { parseTemplate, type Template } from '../spiffe/template.js';
import { type Failure, failure } from './outcome.js';
import { processSelectorProblem } from './process.js';
import type { ContainerSelector, IdentityRef, ProcessSelector } from './registration.js';

/** An identity resource of either kind. */
export type IdentityResource = WorkloadIdentity | ClusterWorkloadIdentity;

/** What an identity that does not say gets, and what none may exceed. Seconds. */
export interface IdentityBounds {
  readonly trustDomain: string;
  readonly x509TtlSeconds: number;
  readonly jwtTtlSeconds: number;
  /** The authorities' own lifetimes: nothing that they sign can live longer. */
  readonly maxX509TtlSeconds: number;
  readonly maxJwtTtlSeconds: number;
  /** Of workloads' keys; unset for ec-p256. */
  readonly keyType: KeyTypeName | undefined;
}

/** An identity resource, read once: selectors, templates and numbers instead of text. */
export interface IdentityRules {
  readonly ref: IdentityRef;
  readonly generation: number;
  /** What is wrong with it; the selectors then still select, so that each pod's failure is known. */
  readonly problem: Failure | undefined;
  /** Set for processes outside Kubernetes; such rules select no pod. */
  readonly process: ProcessSelector | undefined;
  readonly namespaceSelector: LabelSelector | undefined;
  readonly podSelector: LabelSelector | undefined;
  readonly serviceAccounts: ReadonlySet<string> | undefined;
  readonly fallback: boolean;
  /** Which containers of the pods that are selected; unset for the pods as a whole. */
  readonly containers: ContainerSelector | undefined;
  /** It selects static pods, and no others. */
  readonly staticPods: boolean;
  readonly requirements: IdentityRequirements | undefined;
  readonly idTemplate: Template;
  readonly dnsTemplates: readonly Template[];
  readonly x509TtlSeconds: number;
  readonly jwtTtlSeconds: number;
  readonly keyType: KeyTypeName | undefined;
  readonly hint: string;
  readonly federatesWith: readonly string[];
  readonly audiences: readonly string[];
}

/** The longest hint, in bytes (SPIFFE Workload API §5.2.1). */
export const MAX_HINT_BYTES = 1024;
const MAX_DNS_TEMPLATES = 32;
const MAX_LIST = 256;
const MAX_AUDIENCE_BYTES = 1024;
/** Said by no one: under the namespace, after the service account, as SPIRE's and Istio's users expect it. */
const DEFAULT_ID = parseTemplate('/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}');
const NONE: readonly never[] = Object.freeze([]);

class Invalid extends SignetError {}

/** Reads an identity resource. Total: what is wrong is in `problem`. */
export function readIdentity(identity: IdentityResource, bounds: IdentityBounds): IdentityRules {
  const spec = identity.spec;
  const cluster = identity.kind === 'ClusterWorkloadIdentity' ? identity.spec : undefined;
  let problem: Failure | undefined;
  const attempt = <T>(fallback: T, read: () => T): T => {
    try {
      return read();
    } catch (thrown) {
      const error = SignetError.from(thrown);
      problem ??= failure(error.code === 'Internal' ? 'IdentityInvalid' : error.code, error.message);
      return fallback;
    }
  };
  const rules = {
    ref: {
      kind: identity.kind,
      namespace: cluster === undefined ? (identity.metadata.namespace ?? '') : '',
      name: identity.metadata.name,
    },
    generation: identity.metadata.generation,
    process: cluster?.processSelector,
    namespaceSelector: attempt(NOTHING, () => selector(cluster?.namespaceSelector, 'namespaceSelector')),
    // A selector that cannot be read selects nothing: it must not become one that selects everything.
    podSelector: attempt(NOTHING, () => {
      if (cluster === undefined && !identity.metadata.namespace)
        throw new Invalid(
          'NamespaceMissing',
          'metadata.namespace is missing; a WorkloadIdentity belongs to one',
        );
      return selector(spec.podSelector, 'podSelector');
    }),
    serviceAccounts: attempt(new Set<string>(), () =>
      spec.serviceAccountNames === undefined
        ? undefined
        : new Set(list(spec.serviceAccountNames, 'serviceAccountNames')),
    ),
    fallback: cluster?.fallback === true,
    containers: attempt(NO_CONTAINER, () => containers(spec.containerSelector)),
    staticPods: cluster?.staticPods === true,
    requirements: attempt(spec.requirements, () => {
      list(spec.requirements?.allowedImages, 'requirements.allowedImages');
      return spec.requirements;
    }),
    idTemplate: attempt(DEFAULT_ID, () => template(spec.spiffeIDTemplate, 'spiffeIDTemplate') ?? DEFAULT_ID),
    dnsTemplates: attempt<readonly Template[]>(NONE, () => dnsTemplates(spec.dnsNameTemplates)),
    x509TtlSeconds: attempt(bounds.x509TtlSeconds, () =>
      ttl(spec.x509TTL, 'x509TTL', bounds.x509TtlSeconds, bounds.maxX509TtlSeconds),
    ),
    jwtTtlSeconds: attempt(bounds.jwtTtlSeconds, () =>
      ttl(spec.jwtTTL, 'jwtTTL', bounds.jwtTtlSeconds, bounds.maxJwtTtlSeconds),
    ),
    keyType: bounds.keyType,
    hint: attempt('', () => hint(spec.hint)),
    federatesWith: attempt<readonly string[]>(NONE, () =>
      federatesWith(spec.federatesWith, bounds.trustDomain),
    ),
    audiences: attempt<readonly string[]>(NONE, () => audiences(spec.audiences)),
  };
  if (cluster?.processSelector !== undefined) attempt(undefined, () => checkProcess(cluster));
  if (cluster?.staticPods === true) attempt(undefined, () => checkStatic(cluster));
  return { ...rules, problem };
}

/** Selects no pod: a label would have to be there and not there. */
const NOTHING: LabelSelector = {
  matchExpressions: [
    { key: 'signet.dev/nothing', operator: 'Exists' },
    { key: 'signet.dev/nothing', operator: 'DoesNotExist' },
  ],
};

/** Selects no container of any pod. */
const NO_CONTAINER: ContainerSelector = { names: [] };

function containers(value: ContainerSelector | undefined): ContainerSelector | undefined {
  if (value === undefined) return undefined;
  if (value.names === undefined && value.imageDigests === undefined)
    throw new Invalid(
      'ContainerSelectorInvalid',
      'spec.containerSelector sets no field, so it would select every container; set names or imageDigests',
    );
  list(value.names, 'containerSelector.names');
  list(value.imageDigests, 'containerSelector.imageDigests').forEach((digest, at) => {
    if (!/^sha256:[0-9a-f]{64}$/.test(digest))
      throw new Invalid(
        'ContainerSelectorInvalid',
        `spec.containerSelector.imageDigests[${at}] must be "sha256:" and 64 hexadecimal digits in lower case`,
      );
  });
  return value;
}

function selector(value: LabelSelector | undefined, field: string): LabelSelector | undefined {
  if (value === undefined) return undefined;
  const problem = labelSelectorProblem(value);
  if (problem !== undefined) throw new Invalid('SelectorInvalid', `spec.${field}: ${problem}`);
  return value;
}

function list(values: readonly string[] | undefined, field: string, max = MAX_LIST): readonly string[] {
  if (values === undefined || values.length === 0) return NONE;
  if (values.length > max)
    throw new Invalid('ListTooLong', `spec.${field} has ${values.length} entries; ${max} are allowed`);
  return values;
}

function template(text: string | undefined, field: string): Template | undefined {
  if (text === undefined) return undefined;
  try {
    const parsed = parseTemplate(text);
    if (field === 'spiffeIDTemplate' && !text.startsWith('/') && !text.startsWith('spiffe://')) {
      throw new Invalid(
        'SpiffeIdInvalid',
        `"${text.slice(0, 80)}" must start with "/" (a path in the own trust domain) or "spiffe://"`,
      );
    }
    return parsed;
  } catch (thrown) {
    const error = SignetError.from(thrown);
    throw new Invalid(error.code, `spec.${field}: ${error.message}`, { cause: thrown });
  }
}

function dnsTemplates(texts: readonly string[] | undefined): readonly Template[] {
  return list(texts, 'dnsNameTemplates', MAX_DNS_TEMPLATES).flatMap(
    (text, at) => template(text, `dnsNameTemplates[${at}]`) ?? [],
  );
}

function ttl(text: string | undefined, field: string, unsaid: number, most: number): number {
  if (text === undefined) return unsaid;
  const seconds = duration(text, field);
  if (seconds < 1) throw new Invalid('TTLTooShort', `spec.${field} is ${text}; write at least 1s`);
  if (seconds > most) {
    throw new Invalid(
      'TTLTooLong',
      `spec.${field} is ${text}, longer than an authority of this trust domain lives (${most}s); write ${most}s or less, or raise spec.ttls.authority of the TrustDomain`,
    );
  }
  return Math.floor(seconds);
}

function duration(text: string, field: string): number {
  try {
    return parseDuration(text);
  } catch (thrown) {
    throw new Invalid('DurationInvalid', `spec.${field}: ${SignetError.from(thrown).message}`, {
      cause: thrown,
    });
  }
}

function hint(text: string | undefined): string {
  if (text === undefined) return '';
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_HINT_BYTES)
    throw new Invalid('HintTooLong', `spec.hint has ${bytes} bytes; ${MAX_HINT_BYTES} are allowed`);
  return text;
}

function federatesWith(names: readonly string[] | undefined, own: string): readonly string[] {
  const parsed = list(names, 'federatesWith').map((name, at) => {
    try {
      return parseTrustDomain(name);
    } catch (thrown) {
      const error = SignetError.from(thrown);
      throw new Invalid(error.code, `spec.federatesWith[${at}]: ${error.message}`, { cause: thrown });
    }
  });
  if (parsed.includes(own))
    throw new Invalid(
      'TrustDomainInvalid',
      `spec.federatesWith names the own trust domain "${own}"; leave it out`,
    );
  return parsed.length === 0 ? NONE : [...new Set(parsed)];
}

function audiences(values: readonly string[] | undefined): readonly string[] {
  const checked = list(values, 'audiences');
  checked.forEach((value, at) => {
    if (value === '' || Buffer.byteLength(value) > MAX_AUDIENCE_BYTES)
      throw new Invalid(
        'AudienceInvalid',
        `spec.audiences[${at}] must have 1 to ${MAX_AUDIENCE_BYTES} bytes`,
      );
  });
  return checked;
}

function checkProcess(spec: ClusterWorkloadIdentity['spec']): undefined {
  const problem =
    spec.processSelector === undefined ? undefined : processSelectorProblem(spec.processSelector);
  if (problem !== undefined) throw new Invalid('ProcessSelectorInvalid', problem);
  const ofPods = ['namespaceSelector', 'podSelector', 'containerSelector', 'serviceAccountNames'] as const;
  for (const field of [...ofPods, 'fallback', 'staticPods'] as const) {
    if (spec[field] !== undefined && spec[field] !== false) {
      throw new Invalid(
        'ProcessSelectorInvalid',
        `spec.${field} selects pods and spec.processSelector processes; write two resources`,
      );
    }
  }
  if (spec.requirements !== undefined)
    throw new Invalid(
      'ProcessSelectorInvalid',
      'spec.requirements speaks of pods; leave it out for processes',
    );
  if (spec.spiffeIDTemplate === undefined) {
    throw new Invalid(
      'TemplateRequired',
      'spec.spiffeIDTemplate is needed with spec.processSelector: a process has no namespace or service account',
    );
  }
}

function checkStatic(spec: ClusterWorkloadIdentity['spec']): undefined {
  if (spec.serviceAccountNames !== undefined)
    throw new Invalid(
      'StaticPodsInvalid',
      'spec.serviceAccountNames selects nothing with spec.staticPods: a static pod has no service account',
    );
  if (spec.spiffeIDTemplate === undefined)
    throw new Invalid(
      'TemplateRequired',
      'spec.spiffeIDTemplate is needed with spec.staticPods: a static pod has no service account',
    );
}
