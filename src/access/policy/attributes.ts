import { valueAt } from './claims.js';
import type { AccessRequest, AttributeMatch, DecisionAttributes } from './model.js';
import { compareOrdered, scalarText } from './scalar.js';
import { not, of, type Match } from './three-valued.js';

const ATTRIBUTE = /^(?:subject|resource|action|environment)(?:\.[A-Za-z_][A-Za-z0-9_-]*)+$/;

/** The path of an attribute such as `resource.owner`; undefined when the text is none. */
export function attributePath(text: string): readonly string[] | undefined {
  return text.length <= 256 && ATTRIBUTE.test(text) ? text.split('.') : undefined;
}

type Fields = Readonly<Record<string, unknown>>;

/**
 * What `attributes` and CEL speak of.
 *
 * - `subject`: the claims of the validated token, then the application's properties, then what is sure: `id` and `type`
 *   (of the application's subject; for network requests the token's `sub`, else the SPIFFE ID), and of the SPIFFE ID
 *   `spiffeId`, `trustDomain`, `namespace`, `serviceAccount`, and the calling pod's `labels`. The later win.
 * - `resource`: the application's, `{...properties, type, id}`; for network requests the called workload,
 *   `{type: 'workload', id: 'namespace/name', namespace, name, labels, port}`.
 * - `action`: the application's, `{...properties, name}`; for network requests `{name: method, method, path, host}`.
 * - `environment`: `time` (RFC 3339; a timestamp in CEL) and `ip`, unless the application's context says others.
 */
export function decisionAttributes(
  request: AccessRequest,
  source: { readonly uri: string; readonly trustDomain: string; readonly path: string } | undefined,
  http: { readonly method: string; readonly path: string; readonly host: string | undefined } | undefined,
): DecisionAttributes {
  const { application } = request;
  const environment = {
    time: new Date(request.time).toISOString(),
    ...(request.sourceIp === undefined ? {} : { ip: request.sourceIp }),
    ...application?.context,
  };
  const subject = subjectOf(request, source);
  if (application === undefined) {
    return { subject, resource: workloadOf(request), action: networkAction(http), environment };
  }
  const { resource, action } = application;
  return {
    subject,
    resource: { ...resource.properties, type: resource.type, id: resource.id },
    action: { ...action.properties, name: action.name },
    environment,
  };
}

const ACCOUNT = /^\/ns\/([^/]+)\/sa\/([^/]+)$/;

function subjectOf(
  { application, token, sourceWorkload }: AccessRequest,
  source: { readonly uri: string; readonly trustDomain: string; readonly path: string } | undefined,
): Fields {
  const claims = token?.claims ?? {};
  const asked = application?.subject;
  const [, namespace, serviceAccount] = ACCOUNT.exec(source?.path ?? '') ?? [];
  const named = asked ?? callerOf(claims, source?.uri);
  return {
    ...claims,
    ...asked?.properties,
    ...defined({
      // What nobody vouches for must not be taken from a claim or property of that name.
      spiffeId: source?.uri,
      trustDomain: source?.trustDomain,
      namespace,
      serviceAccount,
      labels: sourceWorkload?.labels,
      id: named?.id,
      type: named?.type,
    }),
  };
}

/** Who calls: the user of the token, else the workload. */
function callerOf(
  claims: Fields,
  uri: string | undefined,
): { readonly id: string; readonly type: string } | undefined {
  const sub = valueAt(claims, ['sub']);
  if (typeof sub === 'string') return { id: sub, type: 'user' };
  return uri === undefined ? undefined : { id: uri, type: 'workload' };
}

/** Fields that are not known stand as null, which reads as missing. */
function defined(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, value ?? null]));
}

function workloadOf({ target, port }: AccessRequest): Fields {
  const { namespace, name, labels } = target;
  const id = `${namespace}/${name}`;
  return { type: 'workload', id, namespace, name, labels, ...(port === undefined ? {} : { port }) };
}

function networkAction(
  http: { readonly method: string; readonly path: string; readonly host: string | undefined } | undefined,
): Fields {
  if (http === undefined) return {};
  const { method, path, host } = http;
  return { name: method, method, path, ...(host === undefined ? {} : { host }) };
}

/** Whether an attribute is as asked for. A missing one is unknown, but for Exists and DoesNotExist. */
export function matchesAttribute(match: AttributeMatch, attributes: DecisionAttributes): Match {
  const { operator, values } = match;
  const value = valueAt(attributes, match.path);
  if (operator === 'Exists') return of(value !== undefined);
  if (operator === 'DoesNotExist') return of(value === undefined);
  if (value === undefined) return 'unknown';
  if (operator === 'In') return isIn(value, values);
  if (operator === 'NotIn') return not(isIn(value, values));
  const text = scalarText(value);
  const other =
    match.other === undefined ? values[0] : scalarText(valueAt(attributes, match.other) ?? undefined);
  if (text === undefined || other === undefined) return 'unknown';
  if (operator === 'Equals') return of(text === other);
  if (operator === 'NotEquals') return of(text !== other);
  const order = compareOrdered(text, other);
  return order === undefined ? 'unknown' : of(isOrder(operator, order));
}

function isOrder(
  operator: Extract<AttributeMatch['operator'], 'GreaterThan' | 'AtLeast' | 'LessThan' | 'AtMost'>,
  order: number,
): boolean {
  switch (operator) {
    case 'GreaterThan':
      return order > 0;
    case 'AtLeast':
      return order >= 0;
    case 'LessThan':
      return order < 0;
    case 'AtMost':
      return order <= 0;
  }
}

/** A list is In when one of its items is; what is no text, number, boolean or list of these cannot be compared. */
function isIn(value: unknown, values: readonly string[]): Match {
  const items: readonly unknown[] = Array.isArray(value) ? value : [value];
  const texts = items.map(scalarText);
  if (texts.some((text) => text !== undefined && values.includes(text))) return 'yes';
  return texts.includes(undefined) ? 'unknown' : 'no';
}
