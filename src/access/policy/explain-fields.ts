import { matchesAttribute } from './attributes.js';
import { authIsFresh, matchesToken, valueAt } from './claims.js';
import type { Facts } from './facts.js';
import {
  CONDITIONS,
  matchesCondition,
  matchesGrant,
  matchesHosts,
  matchesMethods,
  matchesPaths,
  matchesPorts,
} from './match.js';
import type {
  ActionOperation,
  AttributeMatch,
  ClaimMatch,
  Conditions,
  NetworkOperation,
  Operation,
  TokenMatch,
  ValueMatch,
} from './model.js';
import { describePath } from './path.js';
import type { MissedField } from './reason.js';
import { scalarText } from './scalar.js';
import { of, type Match } from './three-valued.js';
import { requirementsInWords, shortened, windowInWords } from './explain-words.js';
import { matchesHeaders, matchesQuery } from './values.js';

/** A field of a rule, held against a request. */
export interface ComparedField {
  readonly field: MissedField;
  readonly match: Match;
  /** What the rule asks for. */
  readonly asked: string;
  /** What the request has, as it is: whoever reads this may see the request. */
  readonly found: string;
}

const UNSEEN = 'not seen';

/** The fields that one operation asks for. */
export function operationFields(operation: Operation, facts: Facts): readonly ComparedField[] {
  if (operation.kind === 'action')
    return [...actionFields(operation, facts), ...grantFields(operation, facts)];
  if (facts.request.application !== undefined) {
    const found = 'a decision of an application';
    return [{ field: 'action', match: 'no', asked: 'a network request', found }];
  }
  return [
    ...httpFields(operation, facts),
    ...valueFields(operation, facts),
    ...grantFields(operation, facts),
  ];
}

/** Ports, of an operation or of a target. */
export function portField(
  ports: ReadonlySet<number> | readonly number[] | undefined,
  facts: Facts,
): readonly ComparedField[] {
  if (ports === undefined) return [];
  const found = facts.port === undefined ? UNSEEN : String(facts.port);
  return [{ field: 'port', match: matchesPorts(ports, facts), asked: oneOf([...ports].map(String)), found }];
}

function httpFields(operation: NetworkOperation, facts: Facts): readonly ComparedField[] {
  const { methods, hosts, paths } = operation;
  const { http } = facts;
  const fields: ComparedField[] = [...portField(operation.ports, facts)];
  if (methods !== undefined) {
    const match = matchesMethods(operation, facts);
    fields.push({ field: 'method', match, asked: oneOf(methods), found: http?.method ?? UNSEEN });
  }
  if (hosts !== undefined) {
    const match = matchesHosts(operation, facts);
    fields.push({ field: 'host', match, asked: oneOf(hosts), found: shortened(http?.host ?? UNSEEN) });
  }
  if (paths !== undefined) {
    const asked = oneOf(paths.map(describePath));
    const match = matchesPaths(operation, facts);
    fields.push({ field: 'path', match, asked, found: shortened(http?.path ?? UNSEEN) });
  }
  return fields;
}

function valueFields({ headers = [], query = [] }: NetworkOperation, facts: Facts): readonly ComparedField[] {
  const seen = facts.request.http?.headers;
  const { http } = facts;
  return [
    ...headers.map((header): ComparedField => {
      const value = seen !== undefined && Object.hasOwn(seen, header.name) ? seen[header.name] : undefined;
      return {
        field: 'header',
        match: matchesHeaders([header], seen),
        asked: valueInWords(header),
        found: seen === undefined ? UNSEEN : shortened(value ?? 'no such header'),
      };
    }),
    ...query.map((parameter): ComparedField => {
      const values = http === undefined ? undefined : facts.query?.get(parameter.name);
      return {
        field: 'query',
        match: http === undefined ? 'unknown' : matchesQuery([parameter], facts.query),
        asked: valueInWords(parameter),
        found: queryFound(http !== undefined, facts, values),
      };
    }),
  ];
}

function queryFound(seen: boolean, facts: Facts, values: readonly string[] | undefined): string {
  if (!seen) return UNSEEN;
  if (facts.query === undefined) return 'a query that cannot be decoded';
  return values === undefined ? 'no such parameter' : shortened(values.join(' and '));
}

function actionFields({ actions, resources }: ActionOperation, { request }: Facts): readonly ComparedField[] {
  const { application } = request;
  if (application === undefined) {
    const asked = 'a decision of an application';
    return [{ field: 'action', match: 'no', asked, found: 'a network request' }];
  }
  const { action, resource } = application;
  const fields: ComparedField[] = [];
  if (actions !== undefined) {
    const match = of(actions.includes(action.name));
    fields.push({ field: 'action', match, asked: oneOf(actions), found: shortened(action.name) });
  }
  if (resources !== undefined) {
    const match = of(
      resources.some(
        ({ type, ids }) => type === resource.type && (ids === undefined || ids.includes(resource.id)),
      ),
    );
    const asked = oneOf(
      resources.map(({ type, ids }) => (ids === undefined ? `any ${type}` : `${type} ${oneOf(ids)}`)),
    );
    fields.push({ field: 'resource', match, asked, found: shortened(`${resource.type} ${resource.id}`) });
  }
  return fields;
}

function grantFields(operation: Operation, facts: Facts): readonly ComparedField[] {
  const { grantedBy } = operation;
  if (grantedBy?.claim === undefined) return [];
  const { role, claim } = grantedBy;
  return [
    {
      field: 'role',
      match: matchesGrant(operation, facts),
      asked: `role ${role} by ${claimInWords(claim)}`,
      found: claimFound(claim, facts),
    },
  ];
}

/** The conditions of a rule. */
export function conditionFields(when: Conditions | undefined, facts: Facts): readonly ComparedField[] {
  if (when === undefined) return [];
  return CONDITIONS.filter((name) => when[name] !== undefined).map((field) => ({
    field,
    match: matchesCondition(field, when, facts),
    ...conditionInWords(field, when, facts),
  }));
}

type Words = Pick<ComparedField, 'asked' | 'found'>;

function conditionInWords(field: (typeof CONDITIONS)[number], when: Conditions, facts: Facts): Words {
  const { request, time } = facts;
  const now = new Date(time).toISOString();
  switch (field) {
    case 'during':
      return { asked: oneOf((when.during ?? []).map(windowInWords)), found: now };
    case 'outside':
      return { asked: `not ${oneOf((when.outside ?? []).map(windowInWords))}`, found: now };
    case 'sourceLabels':
      return labelsInWords(when.sourceLabels, request.sourceWorkload?.labels);
    case 'targetLabels':
      return labelsInWords(when.targetLabels, request.target.labels);
    case 'sourcePosture':
      return postureInWords(when.sourcePosture ?? {}, request.sourceWorkload);
    case 'token':
      return tokenInWords(when.token ?? {}, facts);
    case 'attributes':
      return attributesInWords(when.attributes ?? [], facts);
    case 'cel':
      return celInWords(when.cel, facts);
  }
}

function labelsInWords(
  asked: Conditions['sourceLabels'],
  labels: Readonly<Record<string, string>> | undefined,
): Words {
  const keys = (asked ?? []).map(({ key }) => key);
  const found = keys.map((key) =>
    labels !== undefined && Object.hasOwn(labels, key) ? `${key}=${labels[key] ?? ''}` : `no ${key}`,
  );
  return {
    asked: requirementsInWords(asked ?? []),
    found: labels === undefined ? 'the calling pod is not known' : shortened(found.join(', ')),
  };
}

function postureInWords(
  { imageDigests, allowedImages, noPrivileged }: NonNullable<Conditions['sourcePosture']>,
  workload: Facts['request']['sourceWorkload'],
): Words {
  const asked = [
    ...(imageDigests === true ? ['images by digest'] : []),
    ...(allowedImages === undefined ? [] : [`images of ${oneOf(allowedImages)}`]),
    ...(noPrivileged === true ? ['no privileged container'] : []),
  ].join(' and ');
  if (workload === undefined) return { asked, found: 'the calling pod is not known' };
  const { images, privileged } = workload;
  const isPrivileged =
    privileged === undefined ? 'privilege not known' : privileged ? 'privileged' : 'unprivileged';
  return { asked, found: shortened(`${images?.join(', ') ?? 'images not known'}; ${isPrivileged}`) };
}

/** What is missed of a token; all that is asked where nothing is. */
function tokenInWords(token: TokenMatch, facts: Facts): Words {
  const parts = tokenParts(token, facts);
  const missed = parts.filter(({ holds }) => !holds);
  const shown = missed.length === 0 ? parts : missed;
  const asked = shown.length === 0 ? 'a valid token' : shown.map((part) => part.asked).join(' and ');
  return { asked, found: tokenSeen(facts) ?? shown.map(({ found }) => found).join(' and ') };
}

/** Why nothing can be found in a token; undefined where there is one. */
function tokenSeen({ request: { token } }: Facts): string | undefined {
  if (token === undefined) return 'tokens are not seen';
  return token === null ? 'no valid token' : undefined;
}

function tokenParts(
  { issuers, audiences, subjects, acr, amr, claims = [], maxAuthAge }: TokenMatch,
  facts: Facts,
): readonly (Words & { readonly holds: boolean })[] {
  const { token } = facts.request;
  const part = (
    match: TokenMatch,
    asked: string,
    path: readonly string[],
  ): Words & { readonly holds: boolean } => ({
    holds: matchesToken(match, token, facts.time) === 'yes',
    asked,
    found: claimValue(path, facts),
  });
  const named = { iss: { issuers }, aud: { audiences }, sub: { subjects }, acr: { acr } };
  return [
    ...Object.entries(named).flatMap(([claim, match]) => {
      const [values] = Object.values(match) as readonly (readonly string[] | undefined)[];
      return values === undefined ? [] : [part(match as TokenMatch, `${claim} ${oneOf(values)}`, [claim])];
    }),
    ...(amr === undefined ? [] : [part({ amr }, `amr with ${amr.join(' and ')}`, ['amr'])]),
    ...claims.map((claim) => part({ claims: [claim] }, claimInWords(claim), claim.path)),
    ...(maxAuthAge === undefined ? [] : [loginPart(maxAuthAge, facts)]),
  ];
}

function loginPart(maxAge: number, facts: Facts): Words & { readonly holds: boolean } {
  const claims = facts.request.token?.claims ?? {};
  return {
    holds: authIsFresh(claims, maxAge, facts.time),
    asked: `a login of the last ${maxAge / 1000} s`,
    found: claimValue(['auth_time'], facts),
  };
}

function claimInWords({ path, operator, values }: ClaimMatch): string {
  return `claim ${path.join('/')} ${operator}${values.length === 0 ? '' : ` ${oneOf(values)}`}`;
}

function claimFound({ path }: ClaimMatch, facts: Facts): string {
  return tokenSeen(facts) ?? claimValue(path, facts);
}

function claimValue(path: readonly string[], { request }: Facts): string {
  const value = valueAt(request.token?.claims, path);
  return `${path.join('/')} ${value === undefined ? 'is not there' : inWords(value)}`;
}

function attributesInWords(attributes: readonly AttributeMatch[], facts: Facts): Words {
  const missed = attributes.filter((attribute) => matchesAttribute(attribute, facts.attributes) !== 'yes');
  const shown = missed.length === 0 ? attributes : missed;
  const valueOf = (path: readonly string[]): string => {
    const value = valueAt(facts.attributes, path);
    return `${path.join('.')} ${value === undefined ? 'is not known' : `is ${inWords(value)}`}`;
  };
  return {
    asked: shown
      .map(({ path, operator, values, other }) => {
        const wanted = other === undefined ? oneOf(values) : other.join('.');
        return `${path.join('.')} ${operator}${wanted === '' ? '' : ` ${wanted}`}`;
      })
      .join(' and '),
    found: shown
      .flatMap(({ path, other }) => [valueOf(path), ...(other === undefined ? [] : [valueOf(other)])])
      .join(' and '),
  };
}

function celInWords(condition: Conditions['cel'], { attributes }: Facts): Words {
  const result = condition?.evaluate(attributes);
  return {
    asked: shortened(condition?.text ?? ''),
    found: result === undefined ? 'it cannot be evaluated' : `it is ${String(result)}`,
  };
}

function valueInWords({ name, operator, values }: ValueMatch): string {
  return `${name} ${operator}${values.length === 0 ? '' : ` ${oneOf(values)}`}`;
}

const inWords = (value: unknown): string =>
  shortened(scalarText(value) ?? JSON.stringify(value) ?? typeof value);

/** How many alternatives are listed. */
const MAX_LISTED = 6;

function oneOf(items: readonly string[]): string {
  const more = items.length > MAX_LISTED ? ` or one of ${items.length - MAX_LISTED} more` : '';
  return `${items.slice(0, MAX_LISTED).map(shortened).join(' or ')}${more}`;
}
