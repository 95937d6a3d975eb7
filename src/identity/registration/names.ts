import { SignetError } from '../../lib/errors.js';
import { dnsNameProblem, isDnsNameOfNamespace } from '../spiffe/dns-name.js';
import { MAX_SPIFFE_ID_BYTES, parseSpiffeId, type SpiffeId, spiffeId } from '../spiffe/id.js';
import type { Template, TemplateData } from '../spiffe/template.js';
import { digest } from './digest.js';
import type { IdentityRules } from './identity-rules.js';
import { type Failure, failure, identityKey } from './outcome.js';

/** What an identity gives one subject, or why nothing. */
export type Names =
  | {
      readonly ok: true;
      readonly spiffeId: SpiffeId;
      readonly dnsNames: readonly string[];
      /** Of these names and of all that the identity gives every subject. */
      readonly revision: string;
    }
  | { readonly ok: false; readonly failure: Failure };

/** Everything under this path names Signet's own parts: agents and servers. No identity may say it. */
const RESERVED = 'signet';
const NO_NAMES: readonly string[] = Object.freeze([]);
/** Pods of one service account share their names; the cache starts over when it holds this many. */
const MAX_SHARED = 4096;

/** Renders the SPIFFE ID and DNS names that an identity gives, once for pods that must get the same. */
export class Namer {
  readonly #rules: IdentityRules;
  readonly #trustDomain: string;
  /** What every registration of the identity has in common, for the revision. */
  readonly #common: string;
  readonly #perPod: boolean;
  readonly #shared = new Map<string, Names>();

  constructor(rules: IdentityRules, trustDomain: string) {
    this.#rules = rules;
    this.#trustDomain = trustDomain;
    this.#common = JSON.stringify([
      identityKey(rules.ref),
      rules.x509TtlSeconds,
      rules.jwtTtlSeconds,
      rules.hint,
      rules.federatesWith,
      rules.audiences,
      // The same revision as of a server that does not know of key types.
      ...(rules.keyType === undefined ? [] : [rules.keyType]),
    ]);
    this.#perPod = [rules.idTemplate, ...rules.dnsTemplates].some(({ perPod }) => perPod);
  }

  names(data: TemplateData): Names {
    if (this.#perPod) return this.#render(data);
    const key = `${data.namespace ?? ''}\0${data.serviceAccount ?? ''}`;
    let names = this.#shared.get(key);
    if (names === undefined) {
      names = this.#render(data);
      if (this.#shared.size >= MAX_SHARED) this.#shared.clear();
      this.#shared.set(key, names);
    }
    return names;
  }

  #render(data: TemplateData): Names {
    const spiffeId = this.#id(data);
    if (!('uri' in spiffeId)) return { ok: false, failure: spiffeId };
    const dnsNames = this.#dnsNames(data);
    if ('reason' in dnsNames) return { ok: false, failure: dnsNames };
    return { ok: true, spiffeId, dnsNames, revision: digest([this.#common, spiffeId.uri, dnsNames]) };
  }

  /** What would fail for every pod, found without one: a literal `..`, another namespace, no DNS name. */
  problem(): Failure | undefined {
    const probe = this.#probe();
    const probed = this.#render(probe);
    if (probed.ok) return undefined;
    const { reason, message } = probed.failure;
    const { idTemplate, dnsTemplates } = this.#rules;
    const tried =
      probe.namespace !== undefined && [idTemplate, ...dnsTemplates].some(({ text }) => text.includes('{{'));
    return {
      reason,
      message: tried ? `${message} (tried with "${probe.namespace}" for each field of a pod)` : message,
    };
  }

  #probe(): TemplateData {
    const { ref, process, idTemplate, dnsTemplates } = this.#rules;
    if (process !== undefined) return { trustDomain: this.#trustDomain };
    // The namespace stands for every value: a field that some pod could fill with it is no escape yet.
    const value = ref.namespace === '' ? 'x' : ref.namespace;
    const anything = anyKey([idTemplate, ...dnsTemplates], value);
    return {
      trustDomain: this.#trustDomain,
      namespace: value,
      serviceAccount: value,
      podName: value,
      podUid: value,
      nodeName: value,
      labels: anything,
      annotations: anything,
    };
  }

  #id(data: TemplateData): SpiffeId | Failure {
    const rendered = this.#rules.idTemplate.render(data, 'id');
    if (!rendered.ok) return failure(rendered.reason, `spec.spiffeIDTemplate: ${rendered.message}`);
    return this.#check(rendered.text);
  }

  #check(text: string): SpiffeId | Failure {
    // Bounded before anything walks it: an annotation may hold a quarter of a megabyte.
    if (text.length > MAX_SPIFFE_ID_BYTES) {
      return failure(
        'SpiffeIdTooLong',
        `spec.spiffeIDTemplate: the SPIFFE ID has ${text.length} bytes; ${MAX_SPIFFE_ID_BYTES} are allowed`,
      );
    }
    let id: SpiffeId;
    try {
      id = text.startsWith('/') ? spiffeId(this.#trustDomain, text) : parseSpiffeId(text);
    } catch (thrown) {
      const error = SignetError.from(thrown);
      return failure(reasonOf(error.code), `spec.spiffeIDTemplate: ${error.message}`);
    }
    return this.#refusal(id) ?? id;
  }

  #refusal(id: SpiffeId): Failure | undefined {
    const { ref } = this.#rules;
    if (id.trustDomain !== this.#trustDomain) {
      return failure(
        'TrustDomainMismatch',
        `spec.spiffeIDTemplate: "${id.uri}" is not in the own trust domain; write spiffe://{{ .TrustDomain }}/… or only the path`,
      );
    }
    if (id.path === '' || id.path === `/${RESERVED}` || id.path.startsWith(`/${RESERVED}/`)) {
      return failure(
        'ReservedId',
        `spec.spiffeIDTemplate: "${id.uri}" is reserved: the trust domain's own ID and those under /${RESERVED}/ name no workload`,
      );
    }
    const home = `/ns/${ref.namespace}/`;
    if (ref.kind === 'WorkloadIdentity' && !id.path.startsWith(home)) {
      return failure(
        'NamespaceEscape',
        `spec.spiffeIDTemplate: "${id.uri}" is outside its namespace; a WorkloadIdentity of namespace ${ref.namespace} gives IDs under ${home} only (a ClusterWorkloadIdentity may give others)`,
      );
    }
    return undefined;
  }

  #dnsNames(data: TemplateData): readonly string[] | Failure {
    const { dnsTemplates } = this.#rules;
    if (dnsTemplates.length === 0) return NO_NAMES;
    const names = new Set<string>();
    for (const [at, template] of dnsTemplates.entries()) {
      const rendered = template.render(data, 'dns');
      if (!rendered.ok) return failure(rendered.reason, `spec.dnsNameTemplates[${at}]: ${rendered.message}`);
      const problem = dnsNameProblem(rendered.text);
      if (problem !== undefined)
        return failure('DNSNameInvalid', `spec.dnsNameTemplates[${at}]: the DNS name ${problem}`);
      const { kind, namespace } = this.#rules.ref;
      if (kind === 'WorkloadIdentity' && !isDnsNameOfNamespace(rendered.text, namespace)) {
        return failure(
          'NamespaceEscape',
          `spec.dnsNameTemplates[${at}]: "${rendered.text}" is outside its namespace; a WorkloadIdentity of namespace ${namespace} gives names that end in .${namespace}.svc or .${namespace}.svc.cluster.local only (a ClusterWorkloadIdentity may give others)`,
        );
      }
      names.add(rendered.text);
    }
    return [...names];
  }
}

/** SPIFFE-ID's error codes as reasons of a failure. */
function reasonOf(code: string): string {
  return code === 'SpiffeIdPathInvalid' ? 'SpiffeIdInvalid' : code;
}

/** A map that has `value` under each key that these templates ask for. */
function anyKey(templates: readonly Template[], value: string): Readonly<Record<string, string>> {
  return Object.fromEntries(templates.flatMap(({ keys }) => keys.map((key) => [key, value])));
}
