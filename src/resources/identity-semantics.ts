import { dnsNameProblem, isDnsNameOfNamespace } from '../identity/spiffe/dns-name.js';
import { checkSpiffePath, parseSpiffeId } from '../identity/spiffe/id.js';
import { parseTemplate, templateProblems } from '../identity/spiffe/template.js';
import { durationProblems } from './duration-bounds.js';
import type { ClusterWorkloadIdentitySpec, IdentityTemplate, WorkloadIdentitySpec } from './identity.js';
import { error, quote, warning } from './names.js';
import type { FieldPath, Problem } from './problem.js';
import { selectorProblems } from './selector-semantics.js';

const ID_FIELD: FieldPath = ['spec', 'spiffeIDTemplate'];
/** Stands for a value that only a pod gives: something that is valid in every place. */
const ANY_VALUE = 'x';

/** What is wrong with the spec of a WorkloadIdentity beyond its form. */
export function workloadIdentityProblems(spec: WorkloadIdentitySpec, namespace: string): Problem[] {
  const problems = [...selectorProblems(spec.podSelector, ['spec', 'podSelector']), ...sharedProblems(spec)];
  const template = spec.spiffeIDTemplate;
  if (template !== undefined && !problems.some(({ path }) => path === ID_FIELD)) {
    problems.push(...escapeProblems(template, namespace));
  }
  for (const [index, text] of (spec.dnsNameTemplates ?? []).entries()) {
    const path = dnsField(index);
    if (!problems.some((problem) => String(problem.path) === String(path)))
      problems.push(...dnsEscapeProblems(text, path, namespace));
  }
  return problems;
}

/** What is wrong with the spec of a ClusterWorkloadIdentity beyond its form. */
export function clusterIdentityProblems(spec: ClusterWorkloadIdentitySpec): Problem[] {
  const problems = [
    ...selectorProblems(spec.namespaceSelector, ['spec', 'namespaceSelector']),
    ...selectorProblems(spec.podSelector, ['spec', 'podSelector']),
    ...sharedProblems(spec),
  ];
  if (spec.processSelector !== undefined) problems.push(...podFieldProblems(spec));
  if (spec.staticPods === true) problems.push(...staticPodProblems(spec));
  return problems;
}

function sharedProblems(spec: IdentityTemplate): Problem[] {
  return [
    ...(spec.spiffeIDTemplate === undefined ? [] : idProblems(spec.spiffeIDTemplate)),
    ...durationProblems(spec.x509TTL, ['spec', 'x509TTL'], 'svid'),
    ...durationProblems(spec.jwtTTL, ['spec', 'jwtTTL'], 'svid'),
    ...(spec.dnsNameTemplates ?? []).flatMap(dnsProblems),
  ];
}

/** A template with every value of a pod replaced by one that is always right: what is wrong then is always wrong. */
function sample(template: string, value = ANY_VALUE): string {
  return template.replaceAll(/\{\{[^}]*\}\}/g, value);
}

function idProblems(template: string): Problem[] {
  const wrong = templateProblems(template);
  if (wrong.length > 0) return wrong.map((message) => error(ID_FIELD, message));
  const text = sample(template);
  try {
    if (text.startsWith('/')) checkSpiffePath(text);
    else parseSpiffeId(text);
  } catch (thrown) {
    return [error(ID_FIELD, thrown instanceof Error ? thrown.message : String(thrown))];
  }
  const path = pathOf(text);
  if (path === '') {
    return [
      error(
        ID_FIELD,
        `${quote(template)} is the trust domain itself and no workload`,
        'write a path after it',
      ),
    ];
  }
  if (path === '/signet' || path.startsWith('/signet/')) {
    return [error(ID_FIELD, `${quote(template)}: what lies under /signet/ names parts of Signet itself`)];
  }
  return [];
}

function pathOf(text: string): string {
  if (text.startsWith('/')) return text;
  const rest = text.slice('spiffe://'.length);
  const slash = rest.indexOf('/');
  return slash < 0 ? '' : rest.slice(slash);
}

/**
 * A namespace's own identities stay under its own path. A template that some pod's label could fill rightly is judged
 * pod by pod, when it is rendered.
 */
function escapeProblems(template: string, namespace: string): Problem[] {
  const allowed = `/ns/${namespace}/`;
  if (pathOf(sample(template, namespace)).startsWith(allowed)) return [];
  return [
    error(
      ID_FIELD,
      `${quote(template)} lies outside ${allowed}: a WorkloadIdentity names workloads of its own namespace only`,
      'begin the path with "/ns/{{ .Namespace }}/", or let a cluster admin write a ClusterWorkloadIdentity',
    ),
  ];
}

/** Callers know a service by its DNS name, so one of another namespace is not for a namespace to give. */
function dnsEscapeProblems(template: string, path: FieldPath, namespace: string): Problem[] {
  if (isDnsNameOfNamespace(sample(template, namespace), namespace)) return [];
  return [
    error(
      path,
      `${quote(template)} lies outside namespace ${quote(namespace)}: a WorkloadIdentity names workloads of its own namespace only`,
      'end it with ".{{ .Namespace }}.svc" or ".{{ .Namespace }}.svc.cluster.local", or let a cluster admin write a ClusterWorkloadIdentity',
    ),
  ];
}

const dnsField = (index: number): FieldPath => ['spec', 'dnsNameTemplates', index];

function dnsProblems(template: string, index: number): Problem[] {
  const path = dnsField(index);
  const wrong = templateProblems(template);
  if (wrong.length > 0) return wrong.map((message) => error(path, message));
  const problem = dnsNameProblem(sample(template));
  return problem === undefined ? [] : [error(path, problem)];
}

/** Whoever is root on a node makes static pods there with any name, namespace and label. */
function staticPodProblems({ spiffeIDTemplate }: ClusterWorkloadIdentitySpec): Problem[] {
  if (spiffeIDTemplate === undefined || /\.(?:PodSpec\.)?NodeName\b/.test(spiffeIDTemplate)) return [];
  return [
    warning(
      ID_FIELD,
      'every node can have this SPIFFE ID: it alone says which static pods it runs, with any name, namespace and label',
      'write {{ .NodeName }} into it, so that a node has IDs of its own alone',
    ),
  ];
}

/** A process has no pod whose fields a template could take. */
function podFieldProblems(spec: ClusterWorkloadIdentitySpec): Problem[] {
  const templates = [
    { path: ID_FIELD, text: spec.spiffeIDTemplate },
    ...(spec.dnsNameTemplates ?? []).map((text, index) => ({
      path: dnsField(index),
      text,
    })),
  ];
  return templates.flatMap(({ path, text }) => {
    if (text === undefined || templateProblems(text).length > 0) return [];
    const rendered = parseTemplate(text).render({ trustDomain: ANY_VALUE }, 'id');
    return rendered.ok
      ? []
      : [error(path, `${rendered.message}: processSelector selects processes, not pods`)];
  });
}
