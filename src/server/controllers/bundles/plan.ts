import { encodePem } from '../../../identity/pki/pem.js';
import { formatBundleDocument } from '../../../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../../../identity/spiffe/bundle.js';
import type { DesiredObject } from '../../../store/kubernetes/applied-content.js';
import { apiVersionOf, type ResourceType } from '../../../store/kubernetes/resource-type.js';

/** On a Namespace: its workloads find the bundle in a ConfigMap. */
export const INJECT_BUNDLE_LABEL = 'signet.dev/inject-bundle';
/** On a webhook configuration: its servers have SVIDs of this trust domain. */
export const INJECT_CA_ANNOTATION = 'signet.dev/inject-ca';

/** The X.509 authorities in PEM, as TLS libraries read them. */
export function bundlePem({ x509Authorities }: TrustBundle): string {
  return x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join('');
}

/** The ConfigMap of a namespace: `bundle.json` is the SPIFFE bundle document, `bundle.pem` its X.509 authorities. */
export function bundleConfigMap(namespace: string, name: string, bundle: TrustBundle): DesiredObject {
  const object = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace, name },
    data: { 'bundle.json': formatBundleDocument(bundle), 'bundle.pem': bundlePem(bundle) },
  };
  return object;
}

/** The ClusterTrustBundle of a signer (KEP-3257). Its name must begin with the signer's. */
export function clusterTrustBundle(
  type: ResourceType,
  signerName: string,
  bundle: TrustBundle,
): DesiredObject {
  const object = {
    apiVersion: apiVersionOf(type),
    kind: type.kind,
    metadata: { name: clusterTrustBundleName(signerName) },
    spec: { signerName, trustBundle: bundlePem(bundle) },
  };
  return object;
}

export function clusterTrustBundleName(signerName: string): string {
  return `${signerName.replaceAll('/', ':')}:bundle`;
}

/** A webhook configuration as far as it is read here. */
export interface WebhookConfiguration {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
  readonly webhooks?: readonly {
    readonly clientConfig?: { readonly caBundle?: string } & Readonly<Record<string, unknown>>;
  }[];
}

/** The configuration with the bundle in each of its webhooks; undefined when it is there already, or not asked for. */
export function withCaBundle<T extends WebhookConfiguration>(
  configuration: T,
  bundle: TrustBundle,
): T | undefined {
  if (configuration.metadata.annotations?.[INJECT_CA_ANNOTATION] !== 'true') return undefined;
  const caBundle = Buffer.from(bundlePem(bundle)).toString('base64');
  const { webhooks = [] } = configuration;
  if (webhooks.every(({ clientConfig }) => clientConfig?.caBundle === caBundle)) return undefined;
  return {
    ...configuration,
    webhooks: webhooks.map((webhook) => ({
      ...webhook,
      clientConfig: { ...webhook.clientConfig, caBundle },
    })),
  };
}
