import { createHash } from 'node:crypto';
import type { AppliedObject } from './object-writer.js';
import { apiVersionOf, type ResourceType } from './resource-type.js';
import type { ApiObject } from './watch.js';

/** An object that somebody wants to be there. */
export type DesiredObject = AppliedObject & { readonly apiVersion: string; readonly kind: string };

/** Which set an object belongs to, which of its owners, and what was applied. */
export const SET_LABEL = 'signet.dev/owner-set';
const OWNER_LABEL = 'signet.dev/owner-id';
const OWNER_ANNOTATION = 'signet.dev/owner';
const HASH_ANNOTATION = 'signet.dev/applied-hash';
const MANAGED_BY = { 'app.kubernetes.io/managed-by': 'signet' };

/** Selects the objects of a set. */
export function selectorOf(set: string): string {
  const labels = Object.entries({ ...MANAGED_BY, [SET_LABEL]: set });
  return labels.map(([name, value]) => `${name}=${value}`).join(',');
}

/** Who an object belongs to, if it is of the set. */
export function ownerOf({ metadata }: ApiObject, set: string): string | undefined {
  return metadata.labels?.[SET_LABEL] === set ? metadata.annotations?.[OWNER_ANNOTATION] : undefined;
}

/** Objects are given again and again as long as they stay the same: marking one costs more than all the rest. */
const known = new WeakMap<DesiredObject, { readonly by: string; readonly object: DesiredObject }>();

/** The object as it is applied: marked as the owner's, and with a hash by which it is known to be up to date. */
export function marked(object: DesiredObject, set: string, owner: string): DesiredObject {
  const by = JSON.stringify([set, owner]);
  const before = known.get(object);
  if (before?.by === by) return before.object;
  const made = mark(object, set, owner);
  known.set(object, { by, object: made });
  return made;
}

function mark(object: DesiredObject, set: string, owner: string): DesiredObject {
  const { metadata } = object;
  const id = createHash('sha256').update(owner).digest('hex').slice(0, 16);
  const whole = {
    ...object,
    metadata: {
      ...metadata,
      labels: { ...metadata.labels, ...MANAGED_BY, [SET_LABEL]: set, [OWNER_LABEL]: id },
      annotations: { ...metadata.annotations, [OWNER_ANNOTATION]: owner },
    },
  };
  const hash = createHash('sha256').update(canonical(whole)).digest('hex').slice(0, 32);
  return {
    ...whole,
    metadata: {
      ...whole.metadata,
      annotations: { ...whole.metadata.annotations, [HASH_ANNOTATION]: hash },
    },
  };
}

/** The hash of what is applied. */
export function appliedHash({ metadata }: DesiredObject): string | undefined {
  return metadata.annotations?.[HASH_ANNOTATION];
}

/**
 * Whether the object is as it was applied: all that is asked for is there, nothing was asked for before and is no more
 * (the hash tells), and nobody has added anything of their own.
 */
export function isAsApplied(actual: ApiObject, edited: boolean, wanted: DesiredObject): boolean {
  return !edited && contains(actual, wanted);
}

/**
 * Whether somebody else than `manager` has written anything but metadata and status into the object: by its managed
 * fields, where what the API server itself fills in is nobody's.
 */
export function isEdited(object: ApiObject, manager: string): boolean {
  return managedFieldsOf(object).some(
    (entry) =>
      entry.manager !== manager &&
      (entry.subresource ?? '') === '' &&
      Object.keys(entry.fieldsV1 ?? {}).some((field) => field !== 'f:metadata' && field !== 'f:status'),
  );
}

/** Whether this manager has ever applied the object. */
export function isAppliedBy(object: ApiObject, manager: string): boolean {
  return managedFieldsOf(object).some(
    (entry) => entry.manager === manager && entry.operation === 'Apply' && (entry.subresource ?? '') === '',
  );
}

/** The object with all that is wanted, and nothing that others have added but their labels, annotations and finalizers. */
export function replacementOf(actual: ApiObject, wanted: DesiredObject): DesiredObject & ApiObject {
  const { metadata } = actual;
  return {
    ...wanted,
    metadata: {
      ...withoutManagedFields(actual).metadata,
      labels: { ...metadata.labels, ...wanted.metadata.labels },
      annotations: { ...metadata.annotations, ...wanted.metadata.annotations },
    },
  };
}

interface ManagedFields {
  readonly manager?: string;
  readonly operation?: string;
  readonly subresource?: string;
  readonly fieldsV1?: object;
}

function managedFieldsOf({ metadata }: ApiObject): readonly ManagedFields[] {
  const { managedFields } = metadata as { readonly managedFields?: readonly ManagedFields[] };
  return managedFields ?? [];
}

/** The object without the record of who wrote which field. */
export function withoutManagedFields(object: ApiObject): ApiObject {
  const metadata: ApiObject['metadata'] & { managedFields?: unknown } = { ...object.metadata };
  delete metadata.managedFields;
  return { ...object, metadata };
}

/** Whether everything in `wanted` is in `actual`, which may hold more (defaults). Lists must be as long. */
export function contains(actual: unknown, wanted: unknown): boolean {
  if (wanted === undefined || wanted === null) return actual === undefined || actual === null;
  if (typeof wanted !== 'object') return actual === wanted;
  // The API server may leave out what is empty.
  if (actual === undefined || actual === null) return Object.keys(wanted).length === 0;
  if (Array.isArray(wanted))
    return (
      Array.isArray(actual) &&
      actual.length === wanted.length &&
      wanted.every((one, at) => contains(actual[at], one))
    );
  if (typeof actual !== 'object' || Array.isArray(actual)) return false;
  const fields = actual as Readonly<Record<string, unknown>>;
  return Object.entries(wanted).every(
    ([name, value]) => value === undefined || contains(fields[name], value),
  );
}

/** JSON in which equal values are equal texts. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([left], [right]) => (left < right ? -1 : 1)))
      : part,
  );
}

/** Names an object among those of all types. */
export function idOf(type: ResourceType, key: string): string {
  return `${apiVersionOf(type)} ${type.kind} ${key}`;
}
