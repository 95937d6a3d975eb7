import { createHash } from 'node:crypto';
import { policyName, type PolicyRef } from '../policy/model.js';

/** Marks every object that Signet renders, so that it finds its own again. */
export const MANAGED_LABELS = { 'app.kubernetes.io/managed-by': 'signet' } as const;

/** Says which policies an object comes from. */
export const POLICY_ANNOTATION = 'signet.dev/policies';

const MAX_NAME = 63;

/**
 * A name for a rendered object: the parts joined by "-", each made a DNS label; with a hash of all parts where that would
 * lose anything, so that two lists of parts never give one name.
 */
export function objectName(...parts: readonly string[]): string {
  const plain = parts.map((part) => part.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')).join('-');
  const trimmed = plain.replaceAll(/^-+|-+$/g, '');
  const faithful = parts.every((part) => /^[a-z0-9]+$/.test(part));
  if (faithful && trimmed.length <= MAX_NAME) return trimmed;
  const hash = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 8);
  const head = trimmed.slice(0, MAX_NAME - 9).replaceAll(/-+$/g, '');
  return head === '' ? hash : `${head}-${hash}`;
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
