import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { CHART, runHelm, type Release } from '../support/chart.js';
import { until } from '../support/until.js';

/*
 * A release whose cluster-wide names were the plain ones takes on names of its own, by Helm itself and a real API server. Its
 * servers go on all the while, so what they may do, and what the admission policy forbids, is asked for without a pause.
 */

const RELEASE: Release = { name: 'third', namespace: 'signet-three' };
const AGENTS = 'signet-three-agents';
/** The helper that gives another release names of its own; without these lines it is as it was in charts of before. */
const SUFFIX = /\{\{- if or \(ne \.Name "signet"\)[^]*?\{\{- end -\}\}\n/;
/** Questions that are under way at once. */
const ASKERS = 4;

interface Rule {
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

interface ClusterRole {
  readonly metadata: { readonly name: string };
  readonly rules: readonly Rule[];
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('a release that had the plain names', () => {
  let plane: ControlPlane;
  let folder = '';
  let former = '';

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chart-'));
    former = join(folder, 'signet');
    await cp(CHART, former, { recursive: true });
    const helpers = join(former, 'templates/_helpers.tpl');
    const text = await readFile(helpers, 'utf8');
    expect(text).toMatch(SUFFIX);
    await writeFile(helpers, text.replace(SUFFIX, ''));
    plane = await startControlPlane();
    const values = ['--set', `trustDomain=example.org,agent.namespace=${AGENTS}`];
    await helm('install', former, '--create-namespace', ...values);
    for (const namespace of [RELEASE.namespace, AGENTS])
      await plane.request('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, {
        metadata: { name: 'default' },
      });
  }, rig.rigTimeout);
  afterAll(async () => {
    await plane?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const helm = async (verb: string, ...args: readonly string[]): Promise<void> => {
    const { code, stderr } = await runHelm(
      [verb, RELEASE.name, ...args, '-n', RELEASE.namespace],
      plane.kubeconfig,
    );
    if (code !== 0) throw new Error(stderr);
  };

  const rolesOfServer = async (): Promise<readonly ClusterRole[]> => {
    const path = '/apis/rbac.authorization.k8s.io/v1/clusterroles';
    const selector = 'app.kubernetes.io/instance%3Dthird,app.kubernetes.io/component%3Dserver';
    const { body } = await plane.request('GET', `${path}?labelSelector=${selector}`);
    return (body as { readonly items: readonly ClusterRole[] }).items;
  };

  /** One right of each role: with a role or its binding all of them would go. */
  const rights = async (): Promise<readonly object[]> =>
    (await rolesOfServer()).map(({ rules: [rule] }) => ({
      verb: rule?.verbs[0],
      group: rule?.apiGroups?.[0],
      resource: rule?.resources?.[0],
      name: rule?.resourceNames?.[0],
    }));

  const may = async (resourceAttributes: object): Promise<boolean> => {
    const { status, body } = await plane.request(
      'POST',
      '/apis/authorization.k8s.io/v1/subjectaccessreviews',
      { spec: { user: `system:serviceaccount:${RELEASE.namespace}:signet-server`, resourceAttributes } },
    );
    expect(status).toBe(201);
    return (body as { readonly status: { readonly allowed: boolean } }).status.allowed;
  };

  /** Whether a pod that would be root on its node is kept out of the agents' namespace, by the admission policy. */
  const isKeptOut = async (): Promise<boolean> => {
    const container = { name: 'c', image: 'x', securityContext: { privileged: true } };
    const { status, body } = await plane.request('POST', `/api/v1/namespaces/${AGENTS}/pods?dryRun=All`, {
      metadata: { name: 'intruder' },
      spec: { containers: [container], automountServiceAccountToken: false },
    });
    return status === 403 && JSON.stringify(body).includes('signet-own-pods');
  };

  /** Does something, and asks all the while. What was answered otherwise than it must be, and how often was asked. */
  const askedDuring = async (
    asked: readonly object[],
    work: () => Promise<void>,
  ): Promise<{ readonly lapses: readonly string[]; readonly rounds: number }> => {
    const lapses: string[] = [];
    let rounds = 0;
    let isOver = false;
    const ask = async (): Promise<void> => {
      while (!isOver) {
        for (const right of asked) if (!(await may(right))) lapses.push(JSON.stringify(right));
        if (!(await isKeptOut())) lapses.push('a privileged pod');
        rounds++;
      }
    };
    const asking = Array.from({ length: ASKERS }, ask);
    try {
      await work();
    } finally {
      isOver = true;
      await Promise.all(asking);
    }
    return { lapses, rounds };
  };

  /** What is in no namespace of a release, and is not there once for all. */
  const names = async (): Promise<readonly string[]> => {
    const kinds =
      'clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings';
    const selector = 'app.kubernetes.io/instance=third';
    const { code, stdout } = await plane.kubectl(['get', kinds, '-l', selector, '-o', 'name']);
    expect(code).toBe(0);
    return stdout.trim().split('\n').sort();
  };

  it('takes on names of its own, and back, and never lacks a right or lets a privileged pod in', async () => {
    const asked = await rights();
    // The general one, and one for each mesh.
    expect(asked.length).toBe(7);
    await until('all is allowed', async () => (await Promise.all(asked.map(may))).every(Boolean));
    await until('the admission policy is in force', isKeptOut);
    const plain = await names();
    expect(plain.filter((name) => name.endsWith('.signet-three.third'))).toEqual([]);

    const forth = await askedDuring(asked, () => helm('upgrade', CHART, '--reuse-values'));
    const own = await names();
    expect(own).toEqual(plain.map((name) => `${name}.signet-three.third`).sort());
    // And again, as any release.
    const again = await askedDuring(asked, () => helm('upgrade', CHART, '--reuse-values'));
    expect(await names()).toEqual(own);
    const back = await askedDuring(asked, () => helm('rollback', '1'));
    expect(await names()).toEqual(plain);

    expect([forth.lapses, again.lapses, back.lapses]).toEqual([[], [], []]);
    for (const { rounds } of [forth, again, back]) expect(rounds).toBeGreaterThan(2 * ASKERS);
  }, 240_000);

  it('and would lack them where an old name went before the new one is there: the question is asked well', async () => {
    const asked = await rights();
    const { lapses } = await askedDuring(asked, async () => {
      await plane.kubectl(['delete', 'clusterrolebinding', 'signet-server-cilium']);
      await plane.kubectl(['delete', 'validatingadmissionpolicybinding', 'signet-own-pods']);
      await until('it is seen', async () => !(await isKeptOut()));
      await helm('upgrade', CHART, '--reuse-values');
    });
    expect(lapses.some((lapse) => lapse.includes('cilium.io'))).toBe(true);
    expect(lapses).toContain('a privileged pod');
    await until('all is allowed again', async () => (await Promise.all(asked.map(may))).every(Boolean));
  }, 240_000);
});
