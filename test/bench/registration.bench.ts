import type { RegistrationDelta } from '../../src/identity/registration/outcome.js';
import type {
  RegistrationIndex,
  RegistrationIndexOptions,
} from '../../src/identity/registration/registration-index.js';
import type { PodFacts } from '../../src/identity/registration/registration.js';
import type { WorkloadIdentity } from '../../src/resources/identity.js';
import type { BenchRow } from './row.js';

type Create = (options: RegistrationIndexOptions) => RegistrationIndex;

const PODS = 100_000;
const NAMESPACES = 500;
const IDENTITIES_PER_NAMESPACE = 4;
const CHANGES = 2_000;

/**
 * Registrations of 100,000 pods in 500 namespaces with four identities each (two labels, one service account, all pods)
 * and a cluster-wide one: computed from nothing, then one pod's change and one identity's change at a time.
 */
export async function run(): Promise<BenchRow[]> {
  // What is shipped is measured; the types are those of its source.
  const built = new URL('../../dist/identity/registration/registration-index.js', import.meta.url);
  const { createRegistrationIndex } = (await import(built.href)) as { createRegistrationIndex: Create };
  const index = createRegistrationIndex({
    trustDomain: 'bench.test',
    defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
    maxX509TtlSeconds: 86_400,
  });
  const pods = Array.from({ length: PODS }, (_, at) => pod(at));
  const heapBefore = heapMiB();
  const started = performance.now();
  for (let at = 0; at < NAMESPACES; at++) {
    index.applyNamespace(`ns-${at}`, { tier: at % 2 === 0 ? 'gold' : 'iron' });
    for (let which = 0; which < IDENTITIES_PER_NAMESPACE; which++) index.applyIdentity(identity(at, which));
  }
  index.applyIdentity({
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'ClusterWorkloadIdentity',
    metadata: { name: 'gold', uid: 'gold', generation: 1 },
    spec: {
      namespaceSelector: { matchLabels: { tier: 'gold' } },
      spiffeIDTemplate: '/gold/{{ .Namespace }}',
    },
  });
  for (const facts of pods) index.applyPod(facts);
  const computed = performance.now() - started;
  const heap = heapMiB() - heapBefore;
  const registrations = [...index.all()].length;

  const podChanges = times(CHANGES, (at) => {
    const facts = pod((at * 7919) % PODS);
    return index.applyPod({ ...facts, serviceAccount: at % 2 === 0 ? 'other' : 'worker' });
  });
  const identityChanges = times(200, (at) => index.applyIdentity(identity(at, 3, `h${at}`)));
  return [
    {
      name: `registrations of ${PODS} pods (${registrations} of them)`,
      value: computed,
      unit: 'ms',
      target: '< 3000 ms',
      pass: computed < 3000,
    },
    { name: 'memory per registration', value: (heap * 1024 * 1024) / registrations, unit: 'B' },
    { name: "one pod's change, p50", value: quantile(podChanges, 0.5), unit: 'ms' },
    {
      name: "one pod's change, p99",
      value: quantile(podChanges, 0.99),
      unit: 'ms',
      target: '< 1 ms',
      pass: quantile(podChanges, 0.99) < 1,
    },
    {
      name: "one identity's change for its 200 pods, p50",
      value: quantile(identityChanges, 0.5),
      unit: 'ms',
    },
  ];
}

function pod(at: number): PodFacts {
  return {
    namespace: `ns-${at % NAMESPACES}`,
    name: `app-${at % 37}-${at}`,
    uid: `0000aaaa-${at}`,
    serviceAccount: at % 3 === 0 ? 'worker' : 'default',
    labels: {
      app: `app-${at % 37}`,
      'app.kubernetes.io/name': `app-${at % 37}`,
      version: 'v1',
      team: 'blue',
    },
    annotations: {},
    nodeName: `node-${at % 1000}`,
    images: ['registry.example/app:1'],
    privileged: false,
  };
}

function identity(namespace: number, which: number, hint?: string): WorkloadIdentity {
  const spec = [
    {
      podSelector: { matchLabels: { app: 'app-1' } },
      spiffeIDTemplate: '/ns/{{ .Namespace }}/app/{{ .Labels.app }}',
    },
    { podSelector: { matchLabels: { team: 'red' } }, spiffeIDTemplate: '/ns/{{ .Namespace }}/red' },
    { serviceAccountNames: ['worker'], spiffeIDTemplate: '/ns/{{ .Namespace }}/pod/{{ .PodName }}' },
    { dnsNameTemplates: ['{{ .ServiceAccount }}.{{ .Namespace }}.svc'] },
  ][which];
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'WorkloadIdentity',
    metadata: {
      name: `identity-${which}`,
      namespace: `ns-${namespace}`,
      uid: `${namespace}-${which}`,
      generation: 1,
    },
    spec: { ...spec, ...(hint === undefined ? {} : { hint }) },
  };
}

/** Milliseconds of each call, which must have changed something. */
function times(count: number, change: (at: number) => RegistrationDelta): number[] {
  return Array.from({ length: count }, (_, at) => {
    const from = performance.now();
    const { changed, removed } = change(at);
    const took = performance.now() - from;
    if (changed.length + removed.length === 0 && at < 2) throw new Error('the change changed nothing');
    return took;
  });
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN;
}

/** Live memory when the collector may be called (`node --expose-gc`), else what is in use. */
function heapMiB(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed / 1024 / 1024;
}
