import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { CHART, render, runHelm, valueSets } from '../support/chart.js';
import { create } from '../support/cluster-server.js';
import { until } from '../support/until.js';

/* The chart in the hands of Helm and of a real API server: installed, upgraded, taken back, removed, installed again. */

const SIGNET = '/apis/signet.dev/v1alpha1';
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const SECRETS = '/api/v1/namespaces/signet-system/secrets';
const ROLE = `${SIGNET}/accessroles/reader`;
const COLUMN = 'Of before';

interface Existing {
  readonly metadata: {
    readonly uid: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
  readonly spec: {
    readonly ttls?: { readonly x509Svid?: string };
    readonly versions?: readonly {
      readonly additionalPrinterColumns?: readonly { readonly name: string }[];
    }[];
  };
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the chart in a cluster', () => {
  let plane: ControlPlane;
  let folder = '';

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chart-'));
    plane = await startControlPlane({ controllerManager: true });
  }, rig.rigTimeout);
  afterEach(async () => {
    await runHelm(['uninstall', 'signet', '-n', 'signet-system', '--ignore-not-found'], plane.kubeconfig);
    for (const ended of [
      'namespace/signet-system',
      'namespace/signet-agents',
      'crds -l app.kubernetes.io/part-of=signet',
    ])
      await plane.kubectl(['delete', ...ended.split(' '), '--ignore-not-found', '--timeout=60s']);
  }, 300_000);
  afterAll(async () => {
    await plane?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const helm = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await runHelm(args, plane.kubeconfig);
    if (code !== 0) throw new Error(stderr);
    return stdout;
  };
  const upgrade = (chart: string, ...more: readonly string[]): Promise<string> =>
    helm('upgrade', 'signet', chart, '-n', 'signet-system', '--reuse-values', ...more);
  const install = (chart: string, ...more: readonly string[]): Promise<string> =>
    helm('install', 'signet', chart, '-n', 'signet-system', '--create-namespace', ...more);
  const get = async (path: string): Promise<Existing | undefined> => {
    const { status, body } = await plane.request('GET', path);
    return status === 200 ? (body as Existing) : undefined;
  };
  const there = async (path: string): Promise<Existing> => {
    const found = await get(path);
    if (found === undefined) throw new Error(`${path} is not there`);
    return found;
  };
  /** Whether a CRD has what the chart of before had and this one has not. */
  const isOfBefore = async (plural: string): Promise<boolean> =>
    (await there(`${CRDS}/${plural}.signet.dev`)).spec.versions?.some(({ additionalPrinterColumns = [] }) =>
      additionalPrinterColumns.some(({ name }) => name === COLUMN),
    ) ?? false;

  /** This chart as another version had it: with other CRDs. */
  const otherVersion = async (version: string): Promise<string> => {
    const chart = join(folder, `signet-${version}`);
    await cp(CHART, chart, { recursive: true });
    const about = await readFile(join(chart, 'Chart.yaml'), 'utf8');
    await writeFile(join(chart, 'Chart.yaml'), about.replaceAll(/ersion: 0\.1\.0/g, `ersion: ${version}`));
    for (const file of await readdir(join(chart, 'crds'))) {
      const path = join(chart, 'crds', file);
      const text = (await readFile(path, 'utf8'))
        .replace(/(app\.kubernetes\.io\/version:) .*/, `$1 '${version}'`)
        .replace(/name: Age\n/, `name: ${COLUMN}\n`);
      await writeFile(path, text);
    }
    return chart;
  };
  /** What users and the server make in a cluster that is in use. */
  const use = async (): Promise<readonly string[]> => {
    await create(plane, `${SIGNET}/accessroles`, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessRole', metadata: { name: 'reader' } },
      spec: { permissions: [{ actions: ['read'] }] },
    });
    await create(plane, SECRETS, { metadata: { name: 'signet-ca' }, data: { keys: 'c2VhbGVk' } });
    return identities();
  };
  const identities = async (): Promise<readonly string[]> =>
    Promise.all(
      [
        ROLE,
        `${SECRETS}/signet-ca`,
        `${SIGNET}/trustdomains/example.org`,
        `${CRDS}/accessroles.signet.dev`,
      ].map(async (path) => {
        const { metadata } = await there(path);
        expect(metadata.deletionTimestamp).toBeUndefined();
        return metadata.uid;
      }),
    );

  it('is taken whole by the API server, with each set of values', async () => {
    await plane.kubectl(['apply', '-f', join(CHART, 'crds')]);
    await plane.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=30s']);
    for (const namespace of ['signet-system', 'signet-agents', 'security-nodes', 'signet-too-agents'])
      await create(plane, '/api/v1/namespaces', { metadata: { name: namespace } });
    await create(plane, '/api/v1/namespaces/signet-system/serviceaccounts', {
      metadata: { name: 'signet-test' },
    });
    for (const [name, file] of await valueSets()) {
      const text = await render('--values', file);
      // The kinds of the Prometheus operator are not here.
      const manifests = text
        .split(/^---\n/m)
        .filter((one) => one !== '' && !one.includes('monitoring.coreos.com'));
      const apply = [
        'apply',
        '--dry-run=server',
        '--server-side',
        '--force-conflicts',
        '--validate=strict',
        '-f',
        '-',
      ];
      const run = await plane.kubectl(apply, { stdin: manifests.join('---\n') });
      expect({ name, ...run }).toMatchObject({ name, code: 0, stderr: '' });
      expect(run.stdout.match(/serverside-applied/g)?.length).toBe(manifests.length);
    }
    await plane.kubectl(['delete', 'namespace', 'security-nodes', 'signet-too-agents']);
  }, 300_000);

  it('is installed by one command that says what comes next', async () => {
    const said = await install(CHART, '--set', 'trustDomain=example.org');
    expect(said).toContain('helm test signet -n signet-system');
    const { spec } = await there(`${SIGNET}/trustdomains/example.org`);
    expect(spec).toMatchObject({ name: 'example.org', defaultAction: 'Allow' });
  }, 60_000);

  it('takes the CRDs along in an upgrade, and keeps what users and the server have made', async () => {
    await install(await otherVersion('0.0.9'), '--set', 'trustDomain=example.org');
    expect(await isOfBefore('accessroles')).toBe(true);
    const before = await use();
    await upgrade(CHART, '--set', 'trustDomainSpec.ttls.x509Svid=20m');
    expect(await isOfBefore('accessroles')).toBe(false);
    expect(await isOfBefore('trustdomains')).toBe(false);
    const { spec, metadata } = await there(`${SIGNET}/trustdomains/example.org`);
    expect(spec.ttls?.x509Svid).toBe('20m');
    expect(metadata.labels?.['app.kubernetes.io/version']).toBe('0.1.0');
    expect(await identities()).toEqual(before);

    // A chart of before leaves newer CRDs alone: what was written in their fields would be lost.
    await upgrade(await otherVersion('0.0.8'));
    expect(await isOfBefore('accessroles')).toBe(false);
    expect(await identities()).toEqual(before);
    // And so does the present one after that.
    await upgrade(CHART);
    expect(await identities()).toEqual(before);
  }, 300_000);

  it('leaves CRDs alone that it has not made, unless it is told', async () => {
    const before = await otherVersion('0.0.7');
    await plane.kubectl(['apply', '--server-side', '-f', join(before, 'crds')]);
    await plane.kubectl([
      'annotate',
      'crd',
      '-l',
      'app.kubernetes.io/part-of=signet',
      'meta.helm.sh/release-name-',
    ]);
    await install(CHART, '--set', 'trustDomain=example.org');
    await upgrade(CHART);
    expect(await isOfBefore('accessroles')).toBe(true);
    const always = ['--set', 'crds.upgrade=always'];
    await expect(upgrade(CHART, ...always)).rejects.toThrow(/invalid ownership metadata/);
    await upgrade(CHART, ...always, '--take-ownership');
    expect(await isOfBefore('accessroles')).toBe(false);
  }, 300_000);

  it('goes and leaves what was declared and what signs, and finds it again', async () => {
    await install(CHART, '--set', 'trustDomain=example.org');
    const before = await use();
    await upgrade(CHART);
    await helm('uninstall', 'signet', '-n', 'signet-system');
    expect(await identities()).toEqual(before);
    for (const gone of [
      '/apis/apps/v1/namespaces/signet-system/deployments/signet-server',
      '/apis/storage.k8s.io/v1/csidrivers/csi.signet.dev',
      '/apis/rbac.authorization.k8s.io/v1/clusterroles/signet-server',
      '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/signet-own-pods',
    ])
      expect(await get(gone)).toBeUndefined();
    await until(
      'the namespace of the agents is gone',
      async () => (await get('/api/v1/namespaces/signet-agents')) === undefined,
    );
    await install(CHART, '--set', 'trustDomain=example.org');
    expect(await identities()).toEqual(before);
  }, 300_000);
});
