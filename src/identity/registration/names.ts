import { SignetError } from '../../lib/errors.js';
import { dnsNameProblem } from '../spiffe/dns-name.js';
import { parseSpiffeId, type SpiffeId, spiffeId } from '../spiffe/id.js';
import type { Template, TemplateData } from '../spiffe/template.js';
import type { IdentityRules } from './identity-rules.js';
import type { Failure } from './outcome.js';

/** Names of one registration, or why there are none. */
export type Names =
  | { readonly ok: true; readonly spiffeId: SpiffeId; readonly dnsNames: readonly string[] }
  | { readonly ok: false; readonly failure: Failure };

/** Everything under this path names Signet's own parts: agents and servers. No identity may say it. */
const RESERVED = 'signet';
const NO_NAMES: readonly string[] = Object.freeze([]);
/** Pods of one service account share their ID object; the cache starts over when it holds this many. */
const MAX_SHARED = 4096;

/** Renders the SPIFFE ID and DNS names that an identity gives, sharing equal IDs between pods. */
export class Namer {
  readonly #rules: IdentityRules;
  readonly #trustDomain: string;
  readonly #shared = new Map<string, SpiffeId>();

  constructor(rules: IdentityRules, trustDomain: string) {
    this.#rules = rules;
    this.#trustDomain = trustDomain;
  }

  names(data: TemplateData): Names {
    const id = this.#id(data);
    if (!('uri' in id)) return { ok: false, failure: id };
    const dnsNames = this.#dnsNames(data);
    return 'reason' in dnsNames ? { ok: false, failure: dnsNames } : { ok: true, spiffeId: id, dnsNames };
  }

  /** What would fail for every pod, found without one: a literal `..`, another namespace, no DNS name. */
  problem(): Failure | undefined {
    const probed = this.names(this.#probe());
    return probed.ok ? undefined : probed.failure;
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
    if (!rendered.ok)
      return { reason: rendered.reason, message: `spec.spiffeIDTemplate: ${rendered.message}` };
    const known = this.#shared.get(rendered.text);
    if (known !== undefined) return known;
    const id = this.#check(rendered.text);
    if ('uri' in id) {
      if (this.#shared.size >= MAX_SHARED) this.#shared.clear();
      // IDs that hardly repeat are not worth remembering.
      if (!this.#rules.idTemplate.perPod) this.#shared.set(rendered.text, id);
    }
    return id;
  }

  #check(text: string): SpiffeId | Failure {
    let id: SpiffeId;
    try {
      id = text.startsWith('/') ? spiffeId(this.#trustDomain, text) : parseSpiffeId(text);
    } catch (thrown) {
      const error = SignetError.from(thrown);
      return { reason: reasonOf(error.code), message: `spec.spiffeIDTemplate: ${error.message}` };
    }
    return this.#refusal(id) ?? id;
  }

  #refusal(id: SpiffeId): Failure | undefined {
    const { ref } = this.#rules;
    if (id.trustDomain !== this.#trustDomain) {
      return {
        reason: 'TrustDomainMismatch',
        message: `spec.spiffeIDTemplate: "${id.uri}" is not in the own trust domain; write spiffe://{{ .TrustDomain }}/… or only the path`,
      };
    }
    if (id.path === '' || id.path === `/${RESERVED}` || id.path.startsWith(`/${RESERVED}/`)) {
      return {
        reason: 'ReservedId',
        message: `spec.spiffeIDTemplate: "${id.uri}" is reserved: the trust domain's own ID and those under /${RESERVED}/ name no workload`,
      };
    }
    const home = `/ns/${ref.namespace}/`;
    if (ref.kind === 'WorkloadIdentity' && !id.path.startsWith(home)) {
      return {
        reason: 'NamespaceEscape',
        message: `spec.spiffeIDTemplate: "${id.uri}" is outside its namespace; a WorkloadIdentity of namespace ${ref.namespace} gives IDs under ${home} only (a ClusterWorkloadIdentity may give others)`,
      };
    }
    return undefined;
  }

  #dnsNames(data: TemplateData): readonly string[] | Failure {
    const { dnsTemplates } = this.#rules;
    if (dnsTemplates.length === 0) return NO_NAMES;
    const names = new Set<string>();
    for (const [at, template] of dnsTemplates.entries()) {
      const rendered = template.render(data, 'dns');
      if (!rendered.ok)
        return { reason: rendered.reason, message: `spec.dnsNameTemplates[${at}]: ${rendered.message}` };
      const problem = dnsNameProblem(rendered.text);
      if (problem !== undefined)
        return { reason: 'DNSNameInvalid', message: `spec.dnsNameTemplates[${at}]: the DNS name ${problem}` };
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
