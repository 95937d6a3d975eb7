import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { silentLogger } from '../../lib/logger.js';
import type { JsonObject } from '../../lib/strict-json.js';
import type { HttpAnswer } from '../../rpc/http/route.js';
import { reviewAnswer, readPodReview } from './admission-review.js';
import { CHECK_PATH, INJECT_PATH, webhookRoutes } from './routes.js';

const request = (more: JsonObject = {}): JsonObject => ({
  ...{ uid: 'u-1', namespace: 'shop', operation: 'CREATE' },
  kind: { group: '', version: 'v1', kind: 'Pod' },
  object: { metadata: { name: 'web' }, spec: { containers: [{ name: 'app' }] } },
  ...more,
});
const review = (of: unknown = request()): JsonObject => ({
  ...{ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request: of },
});
const outcomes: string[] = [];
const routes = webhookRoutes({
  ...{
    skippedNamespaces: new Set(['kube-system']),
    proxyImage: undefined,
    captureImage: undefined,
    logger: silentLogger,
  },
  readVolume: ({ files = '' }) => (files === 'bad' ? { problem: 'bad files' } : { socket: 'api.sock' }),
  observe: (outcome) => void outcomes.push(outcome),
});

interface Response {
  readonly uid: string;
  readonly allowed: boolean;
  readonly patch?: string;
  readonly status?: { readonly code: number; readonly message: string };
  readonly warnings?: readonly string[];
}
async function ask(path: string, body: JsonObject | undefined): Promise<Response> {
  const route = routes.find((one) => one.path === path);
  const answer = (await route?.handle({ body, context: { requestId: 'r1' } } as never)) as HttpAnswer;
  return (answer.body as { readonly response: Response }).response;
}

describe('the webhook', () => {
  it('answers with the uid that it was asked by, and the same for the same, dry run or not', async () => {
    const first = await ask(INJECT_PATH, review());
    expect(first).toMatchObject({ uid: 'u-1', allowed: true });
    const patch = JSON.parse(Buffer.from(first.patch ?? '', 'base64').toString()) as readonly unknown[];
    expect(patch.length).toBeGreaterThan(2);
    expect(await ask(INJECT_PATH, review(request({ dryRun: true })))).toEqual(first);
    expect(outcomes).toEqual(['patched', 'patched']);
  });

  it('refuses with a status that says why', async () => {
    const object = {
      metadata: { annotations: { 'signet.dev/inject-files': 'bad' } },
      spec: { containers: [{ name: 'app' }] },
    };
    expect(await ask(INJECT_PATH, review(request({ object })))).toMatchObject({
      ...{ uid: 'u-1', allowed: false },
      status: { code: 422, message: 'metadata.annotations["signet.dev/inject-files"]: bad files' },
    });
  });

  it('lets everybody in whose volumes it warns of', async () => {
    const csi = { driver: 'csi.signet.dev', volumeAttributes: { files: 'bad' } };
    const object = { metadata: {}, spec: { containers: [], volumes: [{ name: 'v', csi }] } };
    const answer = await ask(CHECK_PATH, review(request({ object })));
    expect(answer).toMatchObject({ allowed: true, warnings: [expect.stringContaining('bad files')] });
    expect(answer.patch).toBeUndefined();
  });

  it.each([
    [
      'another version',
      { ...review(), apiVersion: 'admission.k8s.io/v1beta1' },
      /must be an AdmissionReview/,
    ],
    ['no request', review(null), /has no request/],
    ['no uid', review(request({ uid: '' })), /request\.uid/],
    [
      'another kind',
      review(request({ kind: { group: 'apps', version: 'v1', kind: 'Deployment' } })),
      /not about a Pod/,
    ],
    ['a part of a pod', review(request({ subResource: 'ephemeralcontainers' })), /not about a Pod/],
    ['a change', review(request({ operation: 'UPDATE' })), /not about a creation/],
    ['no namespace', review(request({ namespace: '' })), /request\.namespace/],
    ['no pod', review(request({ object: null })), /request\.object/],
  ])('does not answer %s', async (_, body, problem) => {
    await expect(ask(INJECT_PATH, body)).rejects.toMatchObject({
      status: 'InvalidArgument',
      message: expect.stringMatching(problem),
    });
  });

  it('never fails but by saying so, whatever it is asked', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.constantFrom(...Object.keys(request())), fc.jsonValue()),
        async (odd) => {
          const body = review({ ...request(), ...odd });
          const read = readPodReview(body);
          if (typeof read === 'string')
            await expect(ask(INJECT_PATH, body)).rejects.toMatchObject({ status: 'InvalidArgument' });
          else expect((await ask(INJECT_PATH, body)).uid).toBe(read.uid);
        },
      ),
    );
  });

  it('bounds what it says, and writes warnings as headers can be', () => {
    const long = 'x\ny'.repeat(5000);
    const { response } = reviewAnswer('u', {
      ...{ allowed: false, message: long },
      warnings: Array.from({ length: 50 }, () => long),
    }) as { readonly response: Response };
    expect(response.status?.message.length).toBe(4096);
    expect(response.warnings).toHaveLength(8);
    expect(response.warnings?.every((one) => one.length === 256 && !one.includes('\n'))).toBe(true);
  });
});
