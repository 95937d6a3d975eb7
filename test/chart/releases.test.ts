import { describe, expect, it } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import * as rig from '../rig/rig.js';
import { renderAs, SECOND, USUAL, valueSets, type Release } from '../support/chart.js';

/* What two releases of the chart have in common in one cluster: nothing but what a cluster can have once. */

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly roleRef?: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly { readonly namespace: string }[];
  readonly spec?: { readonly policyName?: string };
}

const NAMED = ['--set', 'trustDomain=example.org'];
/** A name of objects (RFC 1123 subdomain), as Kubernetes checks it. */
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** What of a release is in no namespace. */
async function clusterWide(release: Release, ...args: readonly string[]): Promise<readonly Manifest[]> {
  return parseAllDocuments(await renderAs(release, ...args))
    .map((one) => one.toJS() as Manifest | null)
    .filter((one) => one !== null)
    .filter(({ metadata }) => metadata.namespace === undefined);
}

const keysOf = (manifests: readonly Manifest[]): readonly string[] =>
  manifests.map(({ kind, metadata }) => `${kind} ${metadata.name}`);

async function common(
  first: Release,
  second: Release,
  ...args: readonly string[]
): Promise<readonly string[]> {
  const former = keysOf(await clusterWide(first, ...NAMED));
  const found = keysOf(await clusterWide(second, ...NAMED, ...args)).filter((key) => former.includes(key));
  return found.sort();
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('two releases of the chart', () => {
  it.each([
    ['name and namespace', USUAL, SECOND],
    ['name', USUAL, { ...USUAL, name: 'second' }],
    ['namespace', USUAL, { ...USUAL, namespace: 'signet-too' }],
    ['name, and neither is the usual one', SECOND, { ...SECOND, name: 'third' }],
    ['namespace, and neither is the usual one', SECOND, { ...SECOND, namespace: 'signet-three' }],
    // Written one after the other without what parts them, or the other way round, these would be the same.
    ['where a name ends', { name: 'c', namespace: 'a-b' }, { name: 'b-c', namespace: 'a' }],
    ['where a name with dots ends', { name: 'a.b', namespace: 'a' }, { name: 'b', namespace: 'a' }],
  ])(
    'of another %s share what a cluster has once, and nothing else',
    async (_, first, second) => {
      expect(await common(first, second)).toEqual([
        'CSIDriver csi.signet.dev',
        'MutatingWebhookConfiguration signet-injector',
        'Namespace signet-agents',
        'TrustDomain example.org',
        'ValidatingWebhookConfiguration signet-volumes',
      ]);
    },
    rig.rigTimeout,
  );

  it('share nothing where the second leaves that to the first', async () => {
    const values = (await valueSets()).get('second') ?? '';
    expect(await common(USUAL, SECOND, '--values', values)).toEqual([]);
  });

  it.each([
    ['usual', USUAL],
    ['other', SECOND],
    ['with the longest names', { name: 'r.'.repeat(26) + 'r', namespace: 'n'.repeat(63) }],
  ])('name what they have, and bind it to themselves: %s', async (_, release) => {
    const manifests = await clusterWide(release, ...NAMED);
    const keys = keysOf(manifests);
    const bindings = manifests.filter(({ kind }) => kind.endsWith('Binding'));
    expect(bindings.length).toBe(8);
    for (const { roleRef, subjects = [], spec } of bindings) {
      const bound =
        roleRef === undefined
          ? `ValidatingAdmissionPolicy ${spec?.policyName ?? ''}`
          : `${roleRef.kind} ${roleRef.name}`;
      expect(keys).toContain(bound);
      for (const { namespace } of subjects) expect(namespace).toBe(release.namespace);
    }
    for (const { metadata } of manifests) {
      expect(metadata.name).toMatch(SUBDOMAIN);
      expect(metadata.name.length).toBeLessThanOrEqual(253);
    }
  });
});
