import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { FakeNodeApi } from '../../test/support/fake-node-api.js';
import { makeTokenKey, signToken } from '../../test/support/oidc-provider.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { PolicyStore } from '../agent/access/policy-store.js';
import { createAgent } from '../agent/agent.js';
import { findToken } from '../agent/authorization/token.js';
import { systemRandom } from '../lib/random.js';
import type { PolicyItem } from '../rpc/node-api.js';
import { openNodeAuthorization } from './node-authorization.js';

let revision = 0;
function item(kind: string, name: string, namespace: string | undefined, content: object): PolicyItem {
  revision += 1;
  const place = namespace === undefined ? name : `${namespace}/${name}`;
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }), uid: 'u' };
  const json = JSON.stringify({ apiVersion: 'v1', kind, metadata, ...content });
  return { key: `${kind}/${place}`, revision: String(revision), json };
}
const trustDomain = (more: object = {}): PolicyItem =>
  item('TrustDomain', 'main', undefined, { spec: { name: 'example.org', ...more } });
const open = (when?: object): PolicyItem =>
  item('AccessPolicy', 'open', 'shop', {
    spec: {
      target: {},
      rules: [{ name: 'r', from: [{ anyone: true }], ...(when === undefined ? {} : { when }) }],
    },
  });
const pod = item('Pod', 'web', 'shop', {
  spec: { nodeName: 'n1', serviceAccountName: 'web' },
  identities: [],
});

async function start() {
  const clock = new FakeClock();
  const logger = recordingLogger();
  const policies = new PolicyStore('n1');
  const agent = createAgent({
    ...{
      api: await FakeNodeApi.create(clock),
      nodeName: 'n1',
      clock,
      random: systemRandom,
      logger,
      policies,
    },
  });
  const access = openNodeAuthorization({
    ...{ policies, agent, clock, random: systemRandom, logger, tellReasons: false },
  });
  const { authorization } = access;
  const take = (upserts: readonly PolicyItem[], removed: readonly string[] = [], snapshot = false): void =>
    policies.take({ snapshot, upserts, removed });
  const decide = async (token?: string): Promise<boolean> => {
    const target = authorization.view?.pod('u') ?? {
      ...{ namespace: 'shop', name: 'web', serviceAccount: 'web', labels: {}, namespaceLabels: {} },
    };
    const found = await findToken(token === undefined ? undefined : `Bearer ${token}`, authorization.tokens);
    const asked = { source: undefined, target, token: found.token };
    return authorization.decide(authorization.nextName(undefined), asked, found).decision.allowed;
  };
  return { clock, logger, policies, access, take, decide };
}

describe('the decisions of an agent in a cluster', () => {
  it('allow nothing before the policies have come, and what they say from then on', async () => {
    const { access, take, decide } = await start();
    expect(access.authorization.view).toBeUndefined();
    expect(await decide()).toBe(false);
    take([trustDomain(), pod, open()], [], true);
    expect(access.authorization.view?.pod('u')).toMatchObject({ name: 'web', serviceAccount: 'web' });
    expect(await decide()).toBe(true);
    access.close();
    expect(await decide()).toBe(false);
  });

  it('allow nothing without a TrustDomain, with two, or with one that cannot be read, and say so', async () => {
    const { logger, take, decide, access } = await start();
    take([pod, open()], [], true);
    expect(await decide()).toBe(false);
    expect(logger.all.join('\n')).toContain('there is no TrustDomain');
    take([trustDomain()]);
    expect(await decide()).toBe(true);
    take([item('TrustDomain', 'other', undefined, { spec: { name: 'other.org' } })]);
    expect(await decide()).toBe(false);
    take([], ['TrustDomain/other']);
    expect(await decide()).toBe(true);
    take([trustDomain({ tokenIssuers: [{ issuer: 'https://a', audiences: ['x'], jwks: '{' }] })]);
    expect(await decide()).toBe(false);
    expect(logger.all.join('\n')).toContain('cannot be decided by');
    take([], ['TrustDomain/main']);
    expect(await decide()).toBe(false);
    access.close();
  });

  it('take up another default action and other token issuers while they run', async () => {
    const { take, decide, clock, access } = await start();
    take([trustDomain(), pod], [], true);
    expect(await decide()).toBe(false);
    take([trustDomain({ defaultAction: 'Allow' })]);
    expect(await decide()).toBe(true);
    const key = makeTokenKey('k1');
    const token = signToken(key, {
      ...{ iss: 'https://login.test', aud: 'shop', sub: 'ann' },
      ...{ iat: clock.now() / 1000, exp: clock.now() / 1000 + 60 },
    });
    take([trustDomain(), open({ token: { issuers: ['https://login.test'] } })]);
    await clock.advance(100);
    expect(await decide(token)).toBe(false);
    const jwks = JSON.stringify({ keys: [key.jwk] });
    take([trustDomain({ tokenIssuers: [{ issuer: 'https://login.test', audiences: ['shop'], jwks }] })]);
    expect(await decide(token)).toBe(true);
    expect(await decide()).toBe(false);
    take([trustDomain()]);
    expect(await decide(token)).toBe(false);
    access.close();
  });

  it('refuse a token from the instant that its Revocation comes to the one that it ends, whatever it was before', async () => {
    const { take, decide, clock, access } = await start();
    const issuer = 'https://login.test';
    const key = makeTokenKey('k1');
    const sign = (claims: object): string =>
      signToken(key, {
        ...{ iss: issuer, aud: 'shop', iat: clock.now() / 1000, exp: clock.now() / 1000 + 600, ...claims },
      });
    const [ann, bob] = [sign({ sub: 'ann', jti: '1' }), sign({ sub: 'bob', jti: '2' })];
    const jwks = JSON.stringify({ keys: [key.jwk] });
    const tokenIssuers = [{ issuer, audiences: ['shop'], jwks }];
    take([trustDomain({ tokenIssuers }), pod, open({ token: { issuers: [issuer] } })], [], true);
    expect([await decide(ann), await decide(bob)]).toEqual([true, true]);
    const until = new Date(clock.now() + 60_000).toISOString();
    const spec = { subject: { user: { issuer, subject: 'ann' } }, reason: 'gone', until };
    take([item('Revocation', 'ann', undefined, { spec })]);
    expect([await decide(ann), await decide(bob)]).toEqual([false, true]);
    // It holds over another TrustDomain, too.
    take([trustDomain({ tokenIssuers, defaultAction: 'Deny' })]);
    expect([await decide(ann), await decide(bob)]).toEqual([false, true]);
    await clock.advance(59_999);
    expect(await decide(ann)).toBe(false);
    await clock.advance(1);
    expect(await decide(ann)).toBe(true);
    take([
      item('Revocation', 'bob', undefined, {
        spec: { subject: { token: { issuer, id: '2' } }, reason: 'x' },
      }),
    ]);
    expect(await decide(bob)).toBe(false);
    take([], ['Revocation/bob']);
    expect(await decide(bob)).toBe(true);
    access.close();
  });
});
