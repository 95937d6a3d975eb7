import { createHash } from 'node:crypto';
import { policyName, type PolicyRef } from '../policy/model.js';

/** Marks every object that Signet renders, so that it finds its own again. */
export const MANAGED_LABELS = { 'app.kubernetes.io/managed-by': 'signet' } as const;

/** Says which policies an object comes from. */
const POLICY_ANNOTATION = 'signet.dev/policies';

/** The longest name that Kubernetes takes for an object (RFC 1123 subdomain). */
const MAX_NAME = 253;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * A name for a rendered object: the parts joined by "."; with a hash of all parts where that would lose anything, so that
 * two lists of parts never give one name.
 */
export function objectName(...parts: readonly string[]): string {
  const plain = parts.join('.');
  if (parts.every((part) => LABEL.test(part)) && plain.length <= MAX_NAME) return plain;
  const hash = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12);
  const words = parts.join('-').toLowerCase();
  const head = words
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 40)
    .replaceAll(/^-+|-+$/g, '');
  return head === '' ? `x-${hash}` : `${head}-${hash}`;
}

/** Metadata of a rendered object. */
export function objectMetadata(
  name: string,
  namespace: string | undefined,
  policies: readonly PolicyRef[],
): {
  readonly name: string;
  readonly namespace?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
} {
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    labels: MANAGED_LABELS,
    annotations: { [POLICY_ANNOTATION]: policies.map(policyName).join(',') },
  };
}

/** The policies that an object comes from, by name (`namespace/name`, or the name alone for a cluster-wide one). */
export function policyNamesOf({
  metadata: { annotations },
}: {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
}): readonly string[] {
  return (annotations?.[POLICY_ANNOTATION] ?? '').split(',').filter((name) => name !== '');
}
