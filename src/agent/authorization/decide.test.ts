import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { createInventory, type InventoryWorkload } from '../../access/mesh/inventory.js';
import type { PolicyInput } from '../../access/policy/input.js';
import { compilePolicySet } from '../../access/policy/policy-set.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { systemRandom } from '../../lib/random.js';
import type { CallContext } from '../../rpc/service.js';
import type { CallParts } from '../session.js';
import { createAuthorization, type Authorization } from './decide.js';
import type { AuthorizationView } from './view.js';

const BACK = 'spiffe://shop.test/ns/shop/sa/back';
const FRONT = 'spiffe://shop.test/ns/shop/sa/front';

const workload = (name: string, version: string): InventoryWorkload => ({
  ...{ name, namespace: 'shop', serviceAccount: 'back' },
  labels: { app: 'back', version },
  ...{ namespaceLabels: {}, spiffeIds: [BACK], ports: [] },
});

const policy = (
  name: string,
  version: string,
  effect: 'Allow' | 'Deny',
  path: string,
  mode = 'Enforce',
): PolicyInput => ({
  kind: 'AccessPolicy',
  metadata: { name, namespace: 'shop' },
  spec: {
    target: { podSelector: { matchLabels: version === '' ? { app: 'back' } : { version } } },
    mode,
    rules: [{ name, effect, from: [{ spiffeIDs: [FRONT] }], to: [{ http: { paths: [{ prefix: path }] } }] }],
  },
});

/** Of these workloads and policies; whoever shares a process' socket is nobody here. */
function authorizationOf(
  workloads: readonly InventoryWorkload[],
  policies: readonly PolicyInput[],
): {
  readonly authorization: Authorization;
  readonly view: AuthorizationView;
} {
  const trustDomain = 'shop.test';
  const inventory = createInventory({ trustDomain, namespaces: [], workloads });
  const view: AuthorizationView = {
    policies: compilePolicySet(policies, { trustDomain }),
    inventory,
    pod: () => undefined,
    target: () => undefined,
    source: () => undefined,
  };
  const authorization = createAuthorization({
    views: { current: view },
    tokens: {} as never,
    knowsTrustDomain: () => true,
    calls: {} as CallParts,
    ...{ clock: new FakeClock(), random: systemRandom, logger: recordingLogger() },
  });
  return { authorization, view };
}

const callerOf = (uri: string): CallContext => ({
  peer: { listener: 'authorization', connectionId: 'c1', spiffeId: parseSpiffeId(uri) },
  signal: new AbortController().signal,
  requestId: 'r1',
  metadata: () => undefined,
});

async function decide(
  { authorization, view }: ReturnType<typeof authorizationOf>,
  path: string,
): Promise<ReturnType<Authorization['decide']>> {
  const targets = await authorization.targets.candidates(view, callerOf(BACK));
  const asked = { source: FRONT, http: { method: 'GET', path }, token: null };
  return authorization.decideForAll({ id: 'd' }, targets, asked);
}

describe('a decision for whom only a SPIFFE ID tells', () => {
  it('is allowed only if it is for each workload that holds the ID, in whatever order they come', async () => {
    const workloads = [workload('one', 'v1'), workload('two', 'v2')];
    const policies = [policy('all', '', 'Allow', '/items'), policy('not-two', 'v2', 'Deny', '/items/new')];
    for (const held of [workloads, workloads.toReversed()]) {
      const world = authorizationOf(held, policies);
      expect((await decide(world, '/items/old')).decision.allowed).toBe(true);
      const denied = await decide(world, '/items/new');
      expect(denied.decision).toMatchObject({ allowed: false, decidedBy: { rule: 'not-two' } });
      expect(denied.request.target.name).toBe('two');
    }
    const alone = authorizationOf([workload('one', 'v1')], policies);
    expect((await decide(alone, '/items/new')).decision.allowed).toBe(true);
  });

  it('tells of a policy in Audit mode that would have denied it to any of them', async () => {
    const workloads = [workload('one', 'v1'), workload('two', 'v2')];
    const world = authorizationOf(workloads, [
      policy('all', '', 'Allow', '/items'),
      policy('soon', 'v2', 'Deny', '/items', 'Audit'),
    ]);
    const { decision } = await decide(world, '/items/old');
    expect(decision.allowed).toBe(true);
    expect(decision.audit).toMatchObject([{ policy: { name: 'soon' }, changesAnswer: true }]);
  });

  it('is refused when no pod holds the ID, or more workloads do than are told apart', async () => {
    const many = Array.from({ length: 33 }, (_, index) => workload(`w${index}`, `v${index}`));
    for (const [workloads, reason] of [
      [[], 'which no pod holds'],
      [many, 'pods of 33 workloads hold'],
    ] as const) {
      await expect(decide(authorizationOf(workloads, []), '/')).rejects.toMatchObject({
        status: 'PermissionDenied',
        message: expect.stringContaining(reason),
      });
    }
    const most = authorizationOf(many.slice(1), [policy('all', '', 'Allow', '/')]);
    expect((await decide(most, '/')).decision.allowed).toBe(true);
  });
});
