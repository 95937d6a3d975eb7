import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { CHART, runHelm, SECOND, USUAL, valueSets, type Release } from '../support/chart.js';
import { until } from '../support/until.js';

/* Two releases of the chart in one cluster, by Helm itself and a real API server: neither takes from the other. */

const KINDS =
  'clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,' +
  'csidrivers,mutatingwebhookconfigurations,validatingwebhookconfigurations';
/** Its agents are elsewhere than those of the second: without a controller manager no namespace ever ends. */
const THIRD: Release = { name: 'third', namespace: 'signet-three' };
const NAMED = ['--set', 'trustDomain=example.org'];

(rig.isSkipped('kubernetes') ? describe.skip : describe)('a second release of the chart in a cluster', () => {
  let plane: ControlPlane;
  let second: readonly string[] = [];

  beforeAll(async () => {
    second = ['--values', (await valueSets()).get('second') ?? ''];
    plane = await startControlPlane();
    await helm('install', USUAL, CHART, '--create-namespace', ...NAMED);
  }, rig.rigTimeout);
  afterAll(async () => {
    await plane?.close();
  });

  const helm = async (
    verb: string,
    { name, namespace }: Release,
    ...args: readonly string[]
  ): Promise<string> => {
    const { code, stdout, stderr } = await runHelm([verb, name, '-n', namespace, ...args], plane.kubeconfig);
    if (code !== 0) throw new Error(stderr);
    return stdout;
  };

  /** What is in no namespace of a release, name → uid and version: the same version is the same object, untouched. */
  const ownedBy = async ({ name }: Release): Promise<Readonly<Record<string, string>>> => {
    const format = '{range .items[*]}{.kind} {.metadata.name}={.metadata.uid} {.metadata.generation}\n{end}';
    const selector = `app.kubernetes.io/instance=${name}`;
    const { code, stdout } = await plane.kubectl(['get', KINDS, '-l', selector, '-o', `jsonpath=${format}`]);
    expect(code).toBe(0);
    const lines = stdout.split('\n').filter((line) => line !== '');
    return Object.fromEntries(lines.map((line) => line.split('=') as [string, string]));
  };

  /** Whether the server of a release may do what its role, and the one for a mesh, allow. */
  const mayServe = async ({ namespace }: Release): Promise<boolean> => {
    const asked = [
      { verb: 'list', resource: 'pods' },
      { verb: 'create', group: 'cilium.io', resource: 'ciliumnetworkpolicies' },
    ];
    const answers = await Promise.all(
      asked.map(async (resourceAttributes) => {
        const { status, body } = await plane.request(
          'POST',
          '/apis/authorization.k8s.io/v1/subjectaccessreviews',
          { spec: { user: `system:serviceaccount:${namespace}:signet-server`, resourceAttributes } },
        );
        expect(status).toBe(201);
        return (body as { readonly status: { readonly allowed: boolean } }).status.allowed;
      }),
    );
    return answers.every(Boolean);
  };
  const serves = (release: Release): Promise<unknown> =>
    until(`the server in ${release.namespace} has its rights`, () => mayServe(release));

  it.each([
    [
      'csi.enabled=false',
      /CSIDriver csi\.signet\.dev belongs to the release signet in the namespace signet-system/,
    ],
    [
      'injector.enabled=false',
      /WebhookConfiguration signet-\w+ belongs to the release signet in the namespace signet-system/,
    ],
  ])(
    'is refused what a cluster has once, by its owner and what to do: %s',
    async (fix, message) => {
      const before = await ownedBy(USUAL);
      const other = ['csi.enabled=false', 'injector.enabled=false'].filter((one) => one !== fix);
      const set = [...second, '--set', fix.replace('false', 'true'), '--set', other.join()];
      // Ownership that is asked for by force, which Helm itself would grant, takes nothing from who uses it.
      for (const more of [[], ['--take-ownership']]) {
        const refused = helm('install', SECOND, CHART, '--create-namespace', ...set, ...more);
        await expect(refused).rejects.toThrow(message);
        await expect(refused).rejects.toThrow(`--set ${fix}, or uninstall that release first`);
      }
      expect(await ownedBy(USUAL)).toEqual(before);
      expect(await ownedBy(SECOND)).toEqual({});
    },
    60_000,
  );

  it('has rights of its own beside the first, and takes none along when it goes', async () => {
    const before = await ownedBy(USUAL);
    expect(Object.keys(before)).toContain('ClusterRole signet-server');
    await serves(USUAL);
    expect(await mayServe(SECOND)).toBe(false);

    await helm('install', SECOND, CHART, '--create-namespace', ...second);
    await Promise.all([serves(USUAL), serves(SECOND)]);
    expect(await ownedBy(USUAL)).toEqual(before);
    expect(Object.keys(await ownedBy(SECOND))).toContain('ClusterRole signet-server.signet-too.second');
    // The first is upgraded as if it were alone.
    await helm('upgrade', USUAL, CHART, '--reuse-values');
    expect(await ownedBy(USUAL)).toEqual(before);

    await helm('uninstall', SECOND);
    await until('the second has no rights', async () => !(await mayServe(SECOND)));
    expect(await ownedBy(SECOND)).toEqual({});
    expect(await ownedBy(USUAL)).toEqual(before);
    expect(await mayServe(USUAL)).toBe(true);
  }, 120_000);

  it('takes over what a cluster has once when the first is gone', async () => {
    const namespace = ['--set', 'agent.namespace=signet-three-agents'];
    await helm('install', THIRD, CHART, '--create-namespace', ...second, ...namespace);
    expect(Object.keys(await ownedBy(THIRD))).not.toContain('CSIDriver csi.signet.dev');
    await helm('uninstall', USUAL);
    // As docs/operations/disaster-recovery.md has it.
    await helm('upgrade', THIRD, CHART, '--reset-values', '--set', 'createTrustDomain=false', ...namespace);
    expect(Object.keys(await ownedBy(THIRD))).toEqual(
      expect.arrayContaining([
        'CSIDriver csi.signet.dev',
        'MutatingWebhookConfiguration signet-injector',
        'ValidatingWebhookConfiguration signet-volumes',
      ]),
    );
    await serves(THIRD);
  }, 120_000);
});
