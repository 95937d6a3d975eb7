/** The `when` of a rule, as src/resources/policy.ts and docs/policy/README.md describe it. */
import type {
  AttributeInput,
  ClaimInput,
  PostureInput,
  SelectorInput,
  TokenInput,
  WhenInput,
  WindowInput,
} from '../../../src/access/policy/input.js';
import type { AccessRequest, SourceWorkload } from '../../../src/access/policy/model.js';
import { dig, every, listOf, negated, said, some, textOf, type Truth } from './logic.js';

/** A Kubernetes label selector. */
export function labelsMatch(
  { matchLabels = {}, matchExpressions = [] }: SelectorInput,
  labels: Readonly<Record<string, string>>,
): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === 'Exists') return value !== undefined;
      if (operator === 'DoesNotExist') return value === undefined;
      const isIn = value !== undefined && values.includes(value);
      return operator === 'In' ? isIn : !isIn;
    })
  );
}

/** A claim by its name, or by a JSON pointer (RFC 6901). */
function claimOf(claims: Readonly<Record<string, unknown>>, name: string): unknown {
  if (!name.startsWith('/')) return dig(claims, [name]);
  const steps = name.split('/').slice(1);
  return dig(
    claims,
    steps.map((step) => step.replace(/~1/g, '/').replace(/~0/g, '~')),
  );
}

/** Claims of a token that is there are all known: what is not in it is not there. */
function claimMatches(match: ClaimInput, claims: Readonly<Record<string, unknown>>): boolean {
  const { operator = 'In', values = [] } = match;
  const value = claimOf(claims, match.claim);
  const texts = listOf(value).map(textOf);
  const isIn = values.some((wanted) => texts.includes(wanted));
  switch (operator) {
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'ContainsAll':
      return values.every((wanted) => texts.includes(wanted));
    case 'NotIn':
      return !isIn;
    default:
      return isIn;
  }
}

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

/** Seconds of `5m`, `1h`. */
function seconds(duration: string): number {
  return Number(duration.slice(0, -1)) * (SECONDS[duration.slice(-1)] ?? Number.NaN);
}

function tokenMatches(wanted: TokenInput, { token, time }: AccessRequest): Truth {
  if (token === undefined) return undefined;
  if (token === null) return false;
  const { claims } = token;
  const texts = (claim: string): readonly unknown[] => listOf(dig(claims, [claim])).map(textOf);
  const oneOf = (claim: string, list: readonly string[] | undefined): Truth =>
    said(list, (values) => values.some((value) => texts(claim).includes(value)));
  return every(
    [
      oneOf('iss', wanted.issuers),
      oneOf('aud', wanted.audiences),
      oneOf('sub', wanted.subjects),
      oneOf('acr', wanted.acr),
      said(wanted.amr, (methods) => methods.every((method) => texts('amr').includes(method))),
      said(wanted.claims, (list) => list.every((match) => claimMatches(match, claims))),
      said(wanted.maxAuthAge, (most) => {
        const login = dig(claims, ['auth_time']);
        if (typeof login !== 'number') return false;
        const age = time / 1000 - login;
        // Clocks differ by a minute at most; a login later than that has not been.
        return age >= -60 && age <= seconds(most);
      }),
    ],
    (truth) => truth,
  );
}

/** Whether the token carries the role that a grant speaks of. */
export function claimCarries(claim: string, value: string, { token }: AccessRequest): Truth {
  if (token === undefined) return undefined;
  return token !== null && claimMatches({ claim, values: [value] }, token.claims);
}

const offsets = new Map<string, Intl.DateTimeFormat>();

/** Minutes that the clock of a zone is ahead of UTC, as it says itself: `GMT-05:00`. */
function offsetOf(timeZone: string, time: number): number {
  const format =
    offsets.get(timeZone) ?? new Intl.DateTimeFormat('en', { timeZone, timeZoneName: 'longOffset' });
  offsets.set(timeZone, format);
  const name = format.formatToParts(time).find(({ type }) => type === 'timeZoneName')?.value ?? '';
  const [, sign = '+', hours = '0', minutes = '0'] = /([+-])(\d+):(\d+)/.exec(name) ?? [];
  return Number(`${sign}1`) * (Number(hours) * 60 + Number(minutes));
}

const DAY = 1440;
const minutesOf = (clock: string): number => Number(clock.slice(0, 2)) * 60 + Number(clock.slice(3));

/** A window is open when it opened today or yesterday and has not ended. */
function isOpen({ days, from, until, timeZone }: WindowInput, time: number): boolean {
  const local = new Date(time + offsetOf(timeZone, time) * 60_000);
  const now = local.getUTCHours() * 60 + local.getUTCMinutes();
  const end = minutesOf(until) > minutesOf(from) ? minutesOf(until) : minutesOf(until) + DAY;
  return [0, 1].some((ago) => {
    const weekday =
      ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'][(local.getUTCDay() + 7 - ago) % 7] ?? '';
    const minute = now + ago * DAY;
    return (days?.includes(weekday) ?? true) && minute >= minutesOf(from) && minute < end;
  });
}

/** An image is under an allowed name when it is that name, or goes on after a slash, or with its tag or digest. */
function imageAllowed(image: string, allowed: string): boolean {
  const bare = image.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
  return image === allowed || bare === allowed || image.startsWith(`${allowed}/`);
}

function postureMatches(wanted: PostureInput, workload: SourceWorkload | undefined): Truth {
  const images = workload?.images ?? [];
  const all = (holds: (image: string) => boolean): Truth =>
    images.length === 0 ? undefined : images.every(holds);
  return every(
    [
      wanted.noPrivileged === true
        ? negated(workload?.privileged)
        : workload === undefined
          ? undefined
          : true,
      wanted.imageDigests === true ? all((image) => /@sha256:[0-9a-f]{64}$/.test(image)) : true,
      said(wanted.allowedImages, (list) =>
        all((image) => list.some((allowed) => imageAllowed(image, allowed))),
      ),
    ],
    (truth) => truth,
  );
}

type Attributes = Readonly<
  Record<'subject' | 'resource' | 'action' | 'environment', Record<string, unknown>>
>;

/** Who calls: whom the application names, else the user of the token, else the workload. */
function callerOf({ source, token, application }: AccessRequest): Record<'id' | 'type', string | undefined> {
  if (application?.subject !== undefined) return application.subject;
  const sub = dig(token?.claims, ['sub']);
  if (typeof sub === 'string') return { id: sub, type: 'user' };
  return { id: source, type: source === undefined ? undefined : 'workload' };
}

function subjectOf(request: AccessRequest): Record<string, unknown> {
  const { source, sourceWorkload, token, application } = request;
  const [, trustDomain, namespace, serviceAccount] =
    /^spiffe:\/\/([^/]+)(?:\/ns\/([^/]+)\/sa\/([^/]+)$)?/.exec(source ?? '') ?? [];
  const { id, type } = callerOf(request);
  return {
    ...token?.claims,
    ...application?.subject?.properties,
    ...{ spiffeId: source, trustDomain, namespace, serviceAccount },
    ...{ labels: sourceWorkload?.labels, id, type },
  };
}

function attributesOf(request: AccessRequest): Attributes {
  const { application, target, http, port, time, sourceIp } = request;
  const id = `${target.namespace}/${target.name}`;
  const { namespace, name, labels } = target;
  const workload = { type: 'workload', id, namespace, name, labels, port };
  const { method, host } = http ?? {};
  const call = { name: method, method, path: http?.path.split('?')[0], host: host?.replace(/:\d+$/, '') };
  return {
    subject: subjectOf(request),
    resource:
      application === undefined
        ? workload
        : {
            ...application.resource.properties,
            type: application.resource.type,
            id: application.resource.id,
          },
    action:
      application === undefined ? call : { ...application.action.properties, name: application.action.name },
    environment: { time: new Date(time).toISOString(), ip: sourceIp, ...application?.context },
  };
}

/** A decimal number or an instant, as a number; undefined when it is neither. */
function orderOf(text: string): number | undefined {
  if (/^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  const instant = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(instant) ? undefined : instant;
}

/** A missing attribute is not known, but for Exists and DoesNotExist. */
function attributeMatches(match: AttributeInput, attributes: Attributes): Truth {
  const { operator = 'In', values = [], other } = match;
  const value = dig(attributes, match.attribute.split('.'));
  if (operator === 'Exists') return value !== undefined;
  if (operator === 'DoesNotExist') return value === undefined;
  if (value === undefined) return undefined;
  if (operator === 'In') return isAmong(value, values);
  if (operator === 'NotIn') return negated(isAmong(value, values));
  const right = other === undefined ? values[0] : textOf(dig(attributes, other.split('.')));
  return comparison(operator, textOf(value), right);
}

function isAmong(value: unknown, values: readonly string[]): Truth {
  return some(listOf(value), (item): Truth => {
    const text = textOf(item);
    return text === undefined ? undefined : values.includes(text);
  });
}

function comparison(operator: string, left: string | undefined, right: string | undefined): Truth {
  if (left === undefined || right === undefined) return undefined;
  if (operator === 'Equals') return left === right;
  if (operator === 'NotEquals') return left !== right;
  const [a, b] = [orderOf(left), orderOf(right)];
  if (a === undefined || b === undefined) return undefined;
  if (operator === 'GreaterThan') return a > b;
  if (operator === 'AtLeast') return a >= b;
  return operator === 'LessThan' ? a < b : a <= b;
}

type Read = (name: string) => unknown;

/** The expressions of policy-conditions.ts, read by a person; a missing attribute is not known, and null is missing. */
const CEL: Readonly<Record<string, (read: Read) => Truth>> = {
  'subject.department == "eng"': (read) => known([read('subject.department')], ([value]) => value === 'eng'),
  'resource.owner == subject.id': (read) =>
    known([read('resource.owner'), read('subject.id')], ([owner, id]) => owner === id),
  'action.name in ["read", "GET"]': (read) =>
    known([read('action.name')], ([name]) => name === 'read' || name === 'GET'),
  'has(subject.department) && subject.department != "law"': (read) =>
    read('subject.department') !== undefined && read('subject.department') !== 'law',
};

function known(values: readonly unknown[], holds: (values: readonly unknown[]) => boolean): Truth {
  return values.includes(undefined) ? undefined : holds(values);
}

/** Whether all that a `when` says holds. */
export function whenMatches(when: WhenInput, request: AccessRequest): Truth {
  const { sourceWorkload, target, time } = request;
  const open = (windows: readonly WindowInput[]): boolean => windows.some((window) => isOpen(window, time));
  return every(
    [
      said(when.token, (token) => tokenMatches(token, request)),
      said(when.during, (windows) => open(windows)),
      said(when.outside, (windows) => !open(windows)),
      said(when.sourceLabels, (selector) =>
        sourceWorkload === undefined ? undefined : labelsMatch(selector, sourceWorkload.labels),
      ),
      said(when.targetLabels, (selector) => labelsMatch(selector, target.labels)),
      said(when.sourcePosture, (posture) => postureMatches(posture, sourceWorkload)),
      said(when.attributes, (list) =>
        every(list, (attribute) => attributeMatches(attribute, attributesOf(request))),
      ),
      said(when.cel, (text) => {
        const read = CEL[text];
        if (read === undefined) throw new Error(`nobody has read ${text}`);
        const attributes = attributesOf(request);
        return read((name) => dig(attributes, name.split('.')));
      }),
    ],
    (truth) => truth,
  );
}
