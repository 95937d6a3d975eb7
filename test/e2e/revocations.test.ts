import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { startDev, type RunningDev } from '../../src/main/dev.js';
import { createX509Source } from '../../src/workload/x509-source.js';
import { ask } from '../support/http-client.js';
import { makeTokenKey, signToken } from '../support/oidc-provider.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';
import { identity, namespace, pod, trustDomain, writeResources, type Manifest } from './support/resources.js';
import { newScope } from './support/scope.js';

/* What a Revocation in the folder of `signet dev` takes away at once, and gives back when it ends. */

jest.setTimeout(60_000);

const issuer = 'https://login.test/';
const app = 'spiffe://shop.test/ns/shop/sa/app';
const key = makeTokenKey('k1');

describe('a Revocation in the folder', () => {
  const scope = newScope();
  const stop = new AbortController();
  let resources: string;
  let dev: RunningDev;

  const revoke = (subject: Manifest, more: Manifest = {}): void =>
    writeResources(resources, 'revocation.yaml', [
      {
        ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'Revocation', metadata: { name: 'now' } },
        spec: { subject, reason: 'the laptop was stolen', ...more },
      },
    ]);
  const giveBack = (): void => rmSync(join(resources, 'revocation.yaml'));

  beforeAll(async () => {
    resources = scope.folder();
    writeResources(resources, 'shop.yaml', [
      trustDomain('shop.test', {
        tokenIssuers: [{ issuer, audiences: ['app'], jwks: JSON.stringify({ keys: [key.jwk] }) }],
      }),
      namespace('shop'),
      ...['app', 'other'].flatMap((name) => [...pod(name), identity(name)]),
      {
        ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessPolicy' },
        metadata: { name: 'users', namespace: 'shop' },
        spec: {
          target: { podSelector: { matchLabels: { app: 'app' } } },
          rules: [
            {
              ...{ name: 'read', from: [{ anyone: true }], to: [{ resources: [{ type: 'page' }] }] },
              when: { token: { issuers: [issuer] } },
            },
          ],
        },
      },
    ]);
    dev = await startDev({
      ...{ resourcePath: resources, stateDirectory: scope.folder() },
      ...{ clock: systemClock, random: systemRandom, logger: recordingLogger(), signal: stop.signal },
    });
  });
  afterAll(async () => {
    stop.abort();
    await dev.stopped;
    await scope.end();
  });

  const socketsOf = (name: string) => {
    const found = dev.report.pods.find((one) => one.name === name);
    if (found === undefined) throw new Error(`no pod ${name}`);
    return found;
  };
  const seconds = Math.floor(systemClock.now() / 1000);
  const token = (claims: Manifest): string =>
    signToken(key, { iss: issuer, aud: 'app', iat: seconds, exp: seconds + 600, ...claims });
  const isAllowed = async (bearer: string): Promise<boolean> => {
    const json = {
      subject: { type: 'token', id: bearer },
      ...{ action: { name: 'read' }, resource: { type: 'page', id: 'home' } },
    };
    const reply = await ask({ socketPath: socketsOf('app').applicationSocket }, '/access/v1/evaluation', {
      json,
    });
    return (reply.json as { readonly decision: boolean }).decision;
  };

  const stolen = token({ sub: 'ann', jti: 't1', sid: 's1' });
  const fresh = token({ sub: 'ann', jti: 't2', sid: 's2' });
  const bobs = token({ sub: 'bob', jti: 't3', sid: 's3' });

  it.each<[string, Manifest, boolean]>([
    ['a token', { token: { issuer, id: 't1' } }, true],
    ['a session', { session: { issuer, id: 's1' } }, true],
    ['a user', { user: { issuer, subject: 'ann' } }, false],
  ])('of %s has what it is about refused, and nothing else', async (_, subject, freshIsAllowed) => {
    expect(await Promise.all([stolen, fresh, bobs].map(isAllowed))).toEqual([true, true, true]);
    revoke(subject);
    await until('the token is refused', async () => !(await isAllowed(stolen)));
    expect(await isAllowed(fresh)).toBe(freshIsAllowed);
    expect(await isAllowed(bobs)).toBe(true);
    giveBack();
    await until('it is taken again', () => isAllowed(stolen));
  });

  it('ends by itself at its time', async () => {
    const end = systemClock.now() + 2_000;
    revoke({ token: { issuer, id: 't1' } }, { until: new Date(end).toISOString() });
    await until('the token is refused', async () => !(await isAllowed(stolen)));
    await until('it is taken again', () => isAllowed(stolen));
    expect(systemClock.now()).toBeGreaterThanOrEqual(end);
    giveBack();
  });

  it.each<[string, Manifest]>([
    ['SPIFFE ID', { spiffeID: app }],
    ['pod', { pod: { namespace: 'shop', name: 'app' } }],
  ])('of a %s has its SVID dropped, and no other', async (_, subject) => {
    const connect = (name: string): ReturnType<typeof createX509Source> =>
      createX509Source({ address: `unix://${socketsOf(name).socket}`, timeoutMs: 300 });
    (await connect('app')).close();
    revoke(subject);
    await until('the pod gets none', () =>
      connect('app').then(
        (source) => {
          source.close();
          return false;
        },
        () => true,
      ),
    );
    (await connect('other')).close();
    giveBack();
    await until('it gets one again', () =>
      connect('app').then((source) => {
        source.close();
        return true;
      }),
    );
  });

  it('of a serial number has that SVID replaced by another', async () => {
    const source = await createX509Source({ address: `unix://${socketsOf('app').socket}` });
    scope.onEnd(() => source.close());
    const serial = (): string => source.svid().serial;
    const first = serial();
    revoke({ serialNumber: first });
    await until('there is another', () => serial() !== first);
    giveBack();
  });
});
