import type { ImportNote } from './result.js';

export type Fields = Readonly<Record<string, unknown>>;

/**
 * Which way what cannot be carried exactly may differ: `under` matches less than Istio (an Allow rule, an exception of a
 * Deny rule), `over` more (a Deny rule, an exception of an Allow rule).
 */
export type Bound = 'under' | 'over';

export const opposite = (bound: Bound): Bound => (bound === 'under' ? 'over' : 'under');

/** What the mesh is like, as far as policies take it for granted. */
export interface IstioMesh {
  readonly trustDomain: string;
  /** `trustDomainAliases` of the mesh. */
  readonly trustDomainAliases?: readonly string[];
  /** `istio-system` unless said. */
  readonly rootNamespace?: string;
}

/** One place in one object: says there what is wrong. */
export class Reading {
  readonly mesh: IstioMesh;
  readonly object: string;
  readonly field: string;
  readonly #notes: ImportNote[];

  constructor(mesh: IstioMesh, object: string, notes: ImportNote[], field = 'spec') {
    this.mesh = mesh;
    this.object = object;
    this.field = field;
    this.#notes = notes;
  }

  at(field: string): Reading {
    return new Reading(this.mesh, this.object, this.#notes, `${this.field}${field}`);
  }

  /** Something is missing from the result, or wider in a Deny rule. */
  error(message: string): void {
    this.#note('error', message);
  }

  /** Something reads differently here. */
  warn(message: string): void {
    this.#note('warning', message);
  }

  #note(severity: ImportNote['severity'], message: string): void {
    this.#notes.push({ object: this.object, field: this.field, severity, message });
  }

  /** The own trust domain and its aliases, which Istio takes for one another. */
  get trustDomains(): readonly string[] {
    return [this.mesh.trustDomain, ...(this.mesh.trustDomainAliases ?? [])];
  }
}

export function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

/** A list of texts; an absent one and an empty one both mean "any" in Istio. Numbers, as YAML has them, are texts. */
export function textsOf(value: unknown): readonly string[] {
  if (!Array.isArray(value)) return [];
  return value.map((item: unknown) =>
    typeof item === 'string' ? item : typeof item === 'number' ? String(item) : '',
  );
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : [];
}

/** Pieces of at most `size`. */
export function pieces<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  const result: T[][] = [];
  for (let at = 0; at < items.length; at += size) result.push(items.slice(at, at + size));
  return result;
}

/** How Istio reads a value: all of it, its beginning, its end, or whether there is one. */
export type ValuePattern =
  | { readonly kind: 'exact'; readonly text: string }
  | { readonly kind: 'prefix'; readonly text: string }
  | { readonly kind: 'suffix'; readonly text: string }
  | { readonly kind: 'present' };

/** Wildcards as istiod reads them (pilot/pkg/security/authz/matcher/string.go): one in the middle is a character. */
export function valuePattern(value: string): ValuePattern {
  if (value === '*') return { kind: 'present' };
  if (value.startsWith('*')) return { kind: 'suffix', text: value.slice(1) };
  if (value.endsWith('*')) return { kind: 'prefix', text: value.slice(0, -1) };
  return { kind: 'exact', text: value };
}
