import type { AccessRequest, DecisionAttributes, TargetWorkload } from '../policy/model.js';

/** A request in the making: each dimension puts its part of a witness here. */
export interface Draft {
  time: number;
  source: string | undefined;
  sourceIp: string | undefined;
  port: number | undefined;
  /** Absent for network requests. */
  application?: { action: string; type: string; id: string };
  /** Whether HTTP is seen. */
  httpSeen: boolean;
  method: string;
  path: string;
  host: string | undefined;
  headersSeen: boolean;
  readonly headers: Map<string, ValueDraft>;
  readonly query: Map<string, ValueDraft>;
  queryBroken: boolean;
  token: 'unseen' | 'none' | 'present';
  readonly claims: Map<string, StructuredDraft>;
  /** Milliseconds since the end user was authenticated. */
  authAge: number | undefined;
  sourceSeen: boolean;
  readonly sourceLabels: Map<string, string>;
  images: readonly string[] | undefined;
  privileged: boolean | undefined;
  /** The application's subject, where it names one. */
  subject: { readonly id: string } | undefined;
  /** What the application says, under paths such as `resource.owner`. */
  readonly attributes: Map<string, StructuredDraft>;
}

/** A header or query parameter: absent, one value, or several of which `members` are among them. */
export interface ValueDraft {
  readonly name: string;
  shape: 'absent' | 'one' | 'several';
  value: string;
  /** A value that no policy names. */
  readonly other: string;
  readonly members: string[];
}

/** A claim or an attribute. */
export interface StructuredDraft {
  readonly path: readonly string[];
  shape: 'absent' | 'one' | 'list' | 'object';
  value: string;
  readonly other: string;
  readonly members: string[];
}

/** The plainest request there is. */
export function createDraft(time: number): Draft {
  return {
    time,
    source: undefined,
    sourceIp: undefined,
    port: undefined,
    httpSeen: true,
    method: 'GET',
    path: '/',
    host: undefined,
    headersSeen: true,
    headers: new Map(),
    query: new Map(),
    queryBroken: false,
    token: 'none',
    claims: new Map(),
    authAge: undefined,
    sourceSeen: true,
    sourceLabels: new Map(),
    images: undefined,
    privileged: undefined,
    subject: { id: 'other' },
    attributes: new Map(),
  };
}

/** The request that a draft has become. */
export function finishDraft(draft: Draft, target: TargetWorkload): AccessRequest {
  const { source, sourceIp, port, time, application } = draft;
  return {
    source,
    target,
    time,
    ...(sourceIp === undefined ? {} : { sourceIp }),
    ...(port === undefined ? {} : { port }),
    ...(draft.sourceSeen ? { sourceWorkload: sourceWorkload(draft) } : {}),
    ...(application === undefined && draft.httpSeen ? { http: http(draft) } : {}),
    ...(draft.token === 'unseen' ? {} : { token: draft.token === 'none' ? null : { claims: claims(draft) } }),
    ...(application === undefined ? {} : { application: applicationPart(draft, application) }),
  };
}

function sourceWorkload(draft: Draft): NonNullable<AccessRequest['sourceWorkload']> {
  return {
    labels: Object.fromEntries(draft.sourceLabels),
    ...(draft.images === undefined ? {} : { images: draft.images }),
    ...(draft.privileged === undefined ? {} : { privileged: draft.privileged }),
  };
}

function http(draft: Draft): NonNullable<AccessRequest['http']> {
  const parts = [...draft.query.values()].flatMap((value) =>
    valuesOf(value).map((text) => `${encodeURIComponent(value.name)}=${encodeURIComponent(text)}`),
  );
  if (draft.queryBroken) parts.push('%zz');
  const query = parts.length === 0 ? '' : `?${parts.join('&')}`;
  const headers = [...draft.headers.values()].flatMap((value): readonly [string, string][] =>
    value.shape === 'absent' ? [] : [[value.name, valuesOf(value).join(',')]],
  );
  return {
    method: draft.method,
    path: `${draft.path}${query}`,
    ...(draft.host === undefined ? {} : { host: draft.host }),
    ...(draft.headersSeen ? { headers: Object.fromEntries(headers) } : {}),
  };
}

function valuesOf({ shape, value, other, members }: ValueDraft): readonly string[] {
  if (shape === 'absent') return [];
  return shape === 'one' ? [value] : members.length === 0 ? [other, `${other}-2`] : members;
}

function claims(draft: Draft): Record<string, unknown> {
  const root: Record<string, unknown> = {};
  // The outer ones first, so that an inner one finds the object that it belongs into.
  const ordered = [...draft.claims.values()].sort((a, b) => a.path.length - b.path.length);
  for (const claim of ordered) {
    if (claim.shape !== 'absent') putAt(root, claim.path, structuredValue(claim));
  }
  if (draft.authAge !== undefined) root['auth_time'] = Math.ceil((draft.time - draft.authAge) / 1000);
  return root;
}

function structuredValue({ shape, value, other, members }: StructuredDraft): unknown {
  if (shape === 'object') return {};
  if (shape === 'one') return value;
  return members.length === 0 ? [other] : members;
}

function putAt(root: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let at = root;
  for (const [index, name] of path.entries()) {
    if (index === path.length - 1) {
      at[name] = value;
      return;
    }
    const inner = at[name];
    const next: Record<string, unknown> =
      typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {};
    at[name] = next;
    at = next;
  }
}

function applicationPart(
  draft: Draft,
  { action, type, id }: NonNullable<Draft['application']>,
): NonNullable<AccessRequest['application']> {
  const root: Record<keyof DecisionAttributes, Record<string, unknown>> = {
    subject: {},
    resource: {},
    action: {},
    environment: {},
  };
  for (const attribute of draft.attributes.values()) {
    if (attribute.shape !== 'absent') putAt(root, attribute.path, structuredValue(attribute));
  }
  const { subject } = draft;
  return {
    ...(subject === undefined ? {} : { subject: { type: 'user', id: subject.id, properties: root.subject } }),
    action: { name: action, properties: root.action },
    resource: { type, id, properties: root.resource },
    context: root.environment,
  };
}
