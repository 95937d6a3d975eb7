export type FailurePolicy = 'Ignore' | 'Fail';

interface Configuration {
  readonly webhooks: readonly object[];
}

/** The configurations of the chart, for a webhook on a port of this machine. */
export function injectorConfigurations(
  failurePolicy: FailurePolicy,
  port: number,
): { readonly mutating: Configuration; readonly validating: Configuration } {
  const clientConfig = (path: string): object => ({ url: `https://localhost:${port}${path}` });
  const rules = [
    {
      apiGroups: [''],
      apiVersions: ['v1'],
      operations: ['CREATE'],
      resources: ['pods'],
      scope: 'Namespaced',
    },
  ];
  const common = { rules, admissionReviewVersions: ['v1'], sideEffects: 'None', matchPolicy: 'Equivalent' };
  const skipped = {
    key: 'kubernetes.io/metadata.name',
    operator: 'NotIn',
    values: ['kube-system', 'signet-system'],
  };
  const label = (operator: string, ...values: readonly string[]): object => ({
    ...{ key: 'signet.dev/inject', operator, values },
  });
  const injecting = (name: string, namespace: object, object: object): object => ({
    ...{ name, ...common, failurePolicy, timeoutSeconds: 5, reinvocationPolicy: 'IfNeeded' },
    ...{ clientConfig: clientConfig('/v1/inject') },
    namespaceSelector: { matchExpressions: [namespace, skipped] },
    objectSelector: { matchExpressions: [object] },
  });
  const annotations = { 'signet.dev/inject-ca': 'true' };
  const mutating = {
    metadata: { name: 'signet-injector', annotations },
    webhooks: [
      injecting('namespace.inject.signet.dev', label('In', 'enabled'), label('NotIn', 'false')),
      injecting('pod.inject.signet.dev', label('NotIn', 'enabled'), label('In', 'true')),
    ],
  };
  const validating = {
    metadata: { name: 'signet-volumes', annotations },
    webhooks: [
      {
        ...{ name: 'volumes.check.signet.dev', ...common, failurePolicy: 'Ignore', timeoutSeconds: 2 },
        ...{ clientConfig: clientConfig('/v1/check') },
        namespaceSelector: { matchExpressions: [skipped] },
        matchConditions: [
          {
            name: 'has-a-signet-volume',
            expression:
              "has(object.spec.volumes) && object.spec.volumes.exists(v, has(v.csi) && v.csi.driver == 'csi.signet.dev')",
          },
        ],
      },
    ],
  };
  return { mutating, validating };
}
