/**
 * Random inventories and requests in the world of policies.ts. Requests are as an attacker would make them: IDs of another
 * trust domain, IDs inside IDs, namespaces of which one begins with the other, paths that two programs read differently.
 *
 * - `inventories()`: content for `createInventory`: up to two workloads for each namespace of the world.
 * - `worlds(language, asking, count)`: all of it together: an inventory, policies, and requests to its workloads.
 * - `requests(inventory, knobs)`: AccessRequests to its workloads. `sourceWorkload` is that of a holder of the source ID.
 */
import fc from 'fast-check';
import {
  createInventory,
  type Inventory,
  type InventoryContent,
  type InventoryWorkload,
} from '../../src/access/mesh/inventory.js';
import type { PolicyInput } from '../../src/access/policy/input.js';
import type {
  AccessRequest,
  ApplicationRequest,
  HttpRequest,
  SourceWorkload,
  ValidatedToken,
} from '../../src/access/policy/model.js';
import { IDS, language, policies, WORLD, type Language } from './policies.js';
import { TOKENS } from './policy-conditions.js';

const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);
const maybe = <T>(arbitrary: fc.Arbitrary<T>, nils = 1): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: nils, arbitrary: fc.constant(undefined) }, { weight: 2, arbitrary });

function workload(namespace: string, name: string, teams: string): fc.Arbitrary<InventoryWorkload> {
  return fc
    .record({
      serviceAccount: pick(WORLD.serviceAccounts),
      version: maybe(pick(['v1', 'v2'])),
      extra: fc.boolean(),
    })
    .map(({ serviceAccount, version, extra }) => ({
      namespace,
      name,
      serviceAccount,
      labels: { app: name, ...(version === undefined ? {} : { version }) },
      namespaceLabels: { team: teams },
      spiffeIds: [
        `spiffe://${WORLD.trustDomain}/ns/${namespace}/sa/${serviceAccount}`,
        ...(extra ? [`spiffe://${WORLD.trustDomain}/ns/${namespace}/other/x`] : []),
      ],
      ports: [
        { port: WORLD.ports[0], protocol: 'http' },
        { port: WORLD.ports[1], protocol: 'tcp' },
      ],
    }));
}

/** What there is: every namespace of the world, with the workloads `one` and `two` or one of them. */
export function inventories(): fc.Arbitrary<InventoryContent> {
  return fc
    .tuple(
      ...WORLD.namespaces.map((namespace) =>
        fc
          .record({
            team: pick(WORLD.teams),
            apps: fc.subarray([...WORLD.apps], { minLength: 1 }),
          })
          .chain(({ team, apps }) =>
            fc.record({
              namespace: fc.constant({ name: namespace, labels: { team } }),
              workloads: fc.tuple(...apps.map((app) => workload(namespace, app, team))),
            }),
          ),
      ),
    )
    .map((parts) => ({
      trustDomain: WORLD.trustDomain,
      namespaces: parts.map(({ namespace }) => namespace),
      workloads: parts.flatMap(({ workloads }) => workloads),
    }));
}

/** What may occur in the requests. */
export interface Asking {
  /** Fields that an enforcement point may not see are left out at times; real engines see all they are asked. */
  readonly unseen: boolean;
  /** Whether HTTP is spoken: never, always, on ports declared so, or at random. */
  readonly http: 'never' | 'always' | 'declared' | 'random';
  /** Paths that are refused whatever the policies say. */
  readonly trickyPaths: boolean;
  readonly lowerCaseMethods: boolean;
  /** Header lines that are repeated, and values that hold a comma. */
  readonly headerTricks: boolean;
  readonly tokens: boolean;
  /** Decisions that an application asks for itself, at times. */
  readonly applications: boolean;
  /** A port that no workload declares, at times. */
  readonly strayPorts: boolean;
  readonly times: readonly number[];
}

/** Everything, but for what a knob says. */
export function asking(knobs: Partial<Asking> = {}): Asking {
  return {
    unseen: true,
    http: 'random',
    trickyPaths: true,
    lowerCaseMethods: false,
    headerTricks: true,
    tokens: true,
    applications: true,
    strayPorts: true,
    times: [WORLD.now, WORLD.now - 1, WORLD.now + 3_600_000, WORLD.now + 12 * 3_600_000],
    ...knobs,
  };
}

/** Refused by `evaluate` whatever the policies say. */
export const TRICKY_PATHS = [
  '//p',
  '/p//q',
  '/p/../p/q',
  '/./p',
  '/p/.',
  '/p%2fq',
  '/p%2Fq',
  '/p;x/q',
  '/p%3b',
  '/p%5cq',
  '/p/%2e%2e/p',
  '/p%00',
  '/p%252fq',
  'p',
] as const;

/** Other paths: beside a prefix, with a slash at the end, with another case, encoded where that changes nothing. */
const PATHS = [
  ...WORLD.paths,
  '/p/',
  '/p/q/',
  '/P',
  '/p/%71',
  '/%70q',
  '/x/q',
  '/p/x/r',
  '/p/q.x',
  ...WORLD.services.flatMap((service) => WORLD.rpcs.map((rpc) => `/${service}/${rpc}`)),
] as const;

const QUERIES = [
  '?q=one',
  '?q=two&page=one',
  '?q=one&q=two',
  '?q=',
  '?q',
  '?q=a+b',
  '?q=%6fne',
  '?q=%zz',
  '?page=two;q=one',
  '?x=1',
] as const;

function http(knobs: Asking): fc.Arbitrary<HttpRequest> {
  const values = [
    ...WORLD.values,
    'a b',
    'ONE',
    ...(knobs.headerTricks ? ['one,two', 'one, one', ' one ,x', ','] : []),
  ];
  const paths = fc.oneof(
    { weight: 12, arbitrary: pick(PATHS) },
    { weight: knobs.trickyPaths ? 1 : 0, arbitrary: pick(TRICKY_PATHS) },
  );
  const headers = fc
    .tuple(...WORLD.headers.map((name) => maybe(pick(values)).map((value) => [name, value] as const)))
    .map((list) => Object.fromEntries(list.filter(([, value]) => value !== undefined)));
  return fc
    .record({
      method: pick([
        ...WORLD.methods,
        ...WORLD.methods,
        'DELETE',
        ...(knobs.lowerCaseMethods ? ['get'] : []),
      ]),
      host: maybe(
        pick([...WORLD.hosts, 'example', 'API.example:8080', 'evilapi.example']),
        knobs.unseen ? 1 : 0,
      ),
      path: fc.tuple(paths, maybe(pick(QUERIES), 3)).map(([path, query]) => `${path}${query ?? ''}`),
      headers: maybe(headers, knobs.unseen ? 1 : 0),
    })
    .map(({ method, host, path, headers: seen }) => ({
      method,
      path,
      ...(host === undefined ? {} : { host }),
      ...(seen === undefined ? {} : { headers: seen as Readonly<Record<string, string>> }),
    }));
}

/** Claims of a token that was validated; issuer and subject are always there. */
export const tokens: fc.Arbitrary<ValidatedToken> = fc
  .record(
    {
      iss: pick(TOKENS.issuers),
      sub: pick(TOKENS.subjects),
      aud: fc.oneof(pick(TOKENS.audiences), fc.subarray([...TOKENS.audiences])),
      department: pick(TOKENS.departments),
      level: pick<unknown>([1, 2, true, '1', 2.5]),
      roles: fc.oneof(pick(TOKENS.roles), fc.subarray([...TOKENS.roles])),
      realm: fc.record({ roles: fc.subarray([...TOKENS.roles]) }),
      amr: fc.subarray([...TOKENS.methods]),
      acr: pick(TOKENS.classes),
      auth_time: pick([60, 600, 7200]).map((age) => WORLD.now / 1000 - age),
    },
    { requiredKeys: ['iss', 'sub'] },
  )
  .map((claims) => ({ claims }));

const properties = fc.record(
  {
    department: pick(TOKENS.departments),
    owner: pick([...TOKENS.subjects, 1]),
    level: pick<unknown>([1, 2, 11, '10', 'x']),
    risk: pick<unknown>([1, 2, 2.5, 10, '3', null]),
  },
  { requiredKeys: [] },
);

const application: fc.Arbitrary<ApplicationRequest> = fc
  .record({
    subject: maybe(fc.record({ type: fc.constant('user'), id: pick(TOKENS.subjects), properties })),
    action: fc.record({ name: pick(WORLD.actions) }),
    resource: fc.record({ type: pick(WORLD.resourceTypes), id: pick(WORLD.resourceIds), properties }),
    context: maybe(properties),
  })
  .map(({ subject, action, resource, context }) => ({
    action,
    resource,
    ...(subject === undefined ? {} : { subject }),
    ...(context === undefined ? {} : { context }),
  }));

const IMAGES = [
  'registry.example/good/app@sha256:' + '0'.repeat(64),
  'registry.example/good:v1',
  'registry.example:5000/good:v1',
  'evil.example/registry.example/good',
] as const;

/** What is known of whoever calls with an ID: the labels of a workload that holds it. */
function sourceWorkload(
  source: string | undefined,
  inventory: Inventory,
): fc.Arbitrary<SourceWorkload | undefined> {
  const holders = source === undefined ? [] : inventory.holdersOf(source);
  if (holders.length === 0) return fc.constant(undefined);
  return fc
    .record({
      holder: pick(holders),
      images: maybe(fc.subarray([...IMAGES])),
      privileged: maybe(fc.boolean()),
    })
    .map(({ holder, images, privileged }) => ({
      labels: holder.labels,
      ...(images === undefined ? {} : { images }),
      ...(privileged === undefined ? {} : { privileged }),
    }));
}

/** Requests to the workloads of an inventory. */
export function requests(inventory: Inventory, knobs: Asking = asking()): fc.Arbitrary<AccessRequest> {
  const unseen = knobs.unseen ? 1 : 0;
  const held = inventory.workloads.flatMap(({ spiffeIds }) => spiffeIds);
  const source = fc.oneof(
    { weight: 3, arbitrary: pick<string | undefined>(held) },
    { weight: 2, arbitrary: pick<string | undefined>(IDS) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  );
  return fc.record({ source, target: pick(inventory.workloads) }).chain((base) =>
    fc
      .record({
        port: maybe(
          pick([
            ...base.target.ports.map(({ port }) => port),
            ...(knobs.strayPorts ? [WORLD.strayPort] : []),
          ]),
          unseen,
        ),
        sourceIp: maybe(pick([...WORLD.ips, '::ffff:10.1.2.3']), unseen),
        sourceWorkload: knobs.unseen
          ? maybe(sourceWorkload(base.source, inventory))
          : sourceWorkload(base.source, inventory),
        http: maybe(http(knobs), knobs.http === 'random' ? 1 : 0),
        token: knobs.tokens
          ? fc.oneof(tokens, fc.constant(null), fc.constant(knobs.unseen ? undefined : null))
          : fc.constant(knobs.unseen ? undefined : null),
        application: maybe(application, knobs.applications ? 6 : 1),
        time: pick(knobs.times),
      })
      .map((rest): AccessRequest => {
        const { application, http: spoken, ...others } = rest;
        const silent =
          knobs.http === 'never' || (knobs.http === 'declared' && !speaksHttp(base.target, rest.port));
        return Object.fromEntries(
          Object.entries({
            ...base,
            ...others,
            http: silent ? undefined : spoken,
            application: knobs.applications ? application : undefined,
          }).filter(([key, value]) => key === 'source' || value !== undefined),
        ) as unknown as AccessRequest;
      }),
  );
}

function speaksHttp(target: InventoryWorkload, port: number | undefined): boolean {
  return target.ports.some((declared) => declared.port === port && declared.protocol !== 'tcp');
}

/** What there is, what is said of it, and what is asked. */
export interface World {
  readonly inventory: Inventory;
  readonly inputs: readonly PolicyInput[];
  /** What the trust domain says of requests that no policy speaks of. */
  readonly defaultAction: 'Allow' | 'Deny';
  readonly requests: readonly AccessRequest[];
}

/** A world, with `count` requests. */
export function worlds(
  said: Language = language(),
  asked: Asking = asking(),
  count = 8,
): fc.Arbitrary<World> {
  return inventories().chain((content) => {
    const inventory = createInventory(content);
    return fc.record({
      inventory: fc.constant(inventory),
      inputs: policies(said),
      defaultAction: pick(['Allow', 'Deny', 'Deny'] as const),
      requests: fc.array(requests(inventory, asked), { minLength: count, maxLength: count }),
    });
  });
}
