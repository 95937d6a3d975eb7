import { beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { AGENTS, anAgentReview, AUDIENCE } from '../../../test/support/node-world.js';
import { SignetError } from '../../lib/errors.js';
import { createAttestation, type AgentPod, type AttestedAgent } from './attestation.js';
import type { TokenReview } from './token-review.js';

const TOKEN = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg';
const CLAIMS = 'authentication.kubernetes.io/';

let clock: FakeClock;
let review: TokenReview;
let pod: AgentPod | undefined;
let asked: [string, string][];
let failure: unknown;
let attest: (token: string) => Promise<AttestedAgent>;

beforeEach(() => {
  clock = new FakeClock();
  asked = [];
  failure = undefined;
  review = anAgentReview('n1');
  pod = {
    ...{ namespace: AGENTS.namespace, name: 'agent-n1', uid: 'uid-agent-n1' },
    ...{ nodeName: 'n1', serviceAccount: AGENTS.name },
  };
  attest = createAttestation({
    ...{ trustDomain: 'example.org', audience: AUDIENCE, serviceAccount: AGENTS, clock },
    reviewer: {
      async review(token, audience) {
        asked.push([token, audience]);
        await Promise.resolve();
        // eslint-disable-next-line @typescript-eslint/only-throw-error -- anything may be thrown
        if (failure !== undefined) throw failure;
        return review;
      },
    },
    podOf: (namespace, name) =>
      pod !== undefined && namespace === pod.namespace && name === pod.name ? pod : undefined,
  });
});

const refused = async (token = TOKEN): Promise<SignetError> => {
  const error = await attest(token).then(
    () => undefined,
    (thrown: unknown) => SignetError.from(thrown),
  );
  if (error === undefined) throw new Error('it was not refused');
  return error;
};
const withClaim = (name: string, values: readonly string[] | undefined): TokenReview => {
  const others = Object.fromEntries(
    Object.entries(review.extra).filter(([key]) => key !== `${CLAIMS}${name}`),
  );
  return { ...review, extra: values === undefined ? others : { ...others, [`${CLAIMS}${name}`]: values } };
};

describe('attestation', () => {
  it('believes the claims of a token that the API server and the pod bear out', async () => {
    expect(await attest(TOKEN)).toEqual({ nodeName: 'n1', podUid: 'uid-agent-n1' });
    expect(asked).toEqual([[TOKEN, AUDIENCE]]);
  });

  it('asks nobody about what cannot be a token', async () => {
    for (const token of ['', 'x'.repeat(16 * 1024 + 1)])
      expect(await refused(token)).toMatchObject({ code: 'TokenRefused' });
    expect(asked).toEqual([]);
  });

  it('refuses a token that the API server does not accept', async () => {
    review = { ...review, authenticated: false, error: 'token has expired' };
    expect(await refused()).toMatchObject({
      code: 'TokenRefused',
      message: expect.stringContaining('token has expired'),
    });
  });

  it('refuses a token for other audiences, however authentic it is', async () => {
    for (const audiences of [[], ['https://kubernetes.default.svc'], [`${AUDIENCE}x`]]) {
      review = { ...review, audiences };
      expect(await refused()).toMatchObject({
        code: 'TokenRefused',
        message: expect.stringContaining(AUDIENCE),
      });
    }
  });

  it.each([
    'system:serviceaccount:signet-system:default',
    'system:serviceaccount:shop:signet-agent',
    'system:serviceaccount:signet-system:signet-agent:x',
    'system:node:n1',
    'signet-agent',
    '',
  ])('refuses a token of %j', async (username) => {
    review = { ...review, username };
    expect(await refused()).toMatchObject({ code: 'NotAnAgent' });
  });

  it.each(['pod-name', 'pod-uid', 'node-name', 'credential-id'])(
    'refuses a token without one %s, or with two',
    async (name) => {
      const whole = review;
      for (const values of [undefined, [], [''], ['a', 'b']]) {
        review = whole;
        review = withClaim(name, values);
        expect(await refused()).toMatchObject({
          code: 'NodeUnproven',
          message: expect.stringContaining(name),
        });
      }
    },
  );

  it('refuses a pod that is gone, or was replaced by one of the same name', async () => {
    const there = pod;
    pod = undefined;
    expect(await refused()).toMatchObject({ code: 'NodeUnproven' });
    pod = there === undefined ? undefined : { ...there, uid: 'another' };
    expect(await refused()).toMatchObject({ code: 'NodeUnproven' });
  });

  it('refuses a node that the pod is not on, and a pod that does not run as an agent', async () => {
    const there = pod;
    for (const change of [{ nodeName: 'n2' }, { nodeName: '' }, { serviceAccount: 'default' }]) {
      pod = there === undefined ? undefined : { ...there, ...change };
      expect(await refused()).toMatchObject({ code: 'NodeUnproven' });
    }
    pod = there === undefined ? undefined : { ...there, nodeName: 'n1/../n2' };
    review = withClaim('node-name', ['n1/../n2']);
    expect(await refused()).toMatchObject({ code: 'NodeUnproven' });
  });

  it('says that it may be tried again when the API server cannot be asked', async () => {
    failure = new SignetError('ApiUnreachable', 'connect ECONNREFUSED');
    expect(await refused()).toMatchObject({
      code: 'ReviewUnavailable',
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });

  it('takes the same token ten times in ten minutes, and others meanwhile', async () => {
    for (let use = 0; use < 10; use++) await attest(TOKEN);
    expect(await refused()).toMatchObject({ code: 'TokenReplayed' });
    const first = review;
    review = withClaim('credential-id', ['JTI=renewed']);
    await attest(TOKEN);
    review = first;
    await clock.advance(9 * 60_000);
    expect(await refused()).toMatchObject({ code: 'TokenReplayed' });
    await clock.advance(61_000);
    await attest(TOKEN);
  });

  it('does not count what was refused before: nobody uses up the token of another', async () => {
    review = { ...review, authenticated: false };
    for (let use = 0; use < 20; use++) await refused();
    review = anAgentReview('n1');
    await attest(TOKEN);
  });

  it('tells nothing of the token, whatever the API server says', async () => {
    const part = fc
      .nat({ max: TOKEN.length - 8 })
      .chain((from) =>
        fc.integer({ min: 8, max: TOKEN.length - from }).map((length) => TOKEN.slice(from, from + length)),
      );
    await fc.assert(
      fc.asyncProperty(part, fc.boolean(), async (quoted, down) => {
        failure = down ? new Error(`POST failed: {"spec":{"token":"${quoted}"}}`) : undefined;
        review = { ...review, authenticated: false, error: `cannot read "${quoted}": bad` };
        const error = await refused();
        const told = `${error.message} ${JSON.stringify([error, error.cause])}`;
        for (let at = 0; at + 8 <= quoted.length; at++) expect(told).not.toContain(quoted.slice(at, at + 8));
      }),
    );
  });
});
