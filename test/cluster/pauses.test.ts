import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { setTimeout as pause } from 'node:timers/promises';
import { start, type Program } from '../e2e/support/process.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { signetCommand } from '../e2e/support/signet.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  conditionOf,
  create,
  prepareCluster,
  SECRETS,
  startClusterServer,
  SYSTEM,
  TRUST_DOMAINS,
  trustDomainStatusOf,
} from '../support/cluster-server.js';
import { until } from '../support/until.js';

/* Servers that stand still for longer than a term of leading, as on a machine that is suspended or starved. */

/** Longer than a leader may go without renewal. */
const PAUSE_MS = 7_000;
const OTHER = 'signet-too';

(rig.isSkipped('kubernetes') ? describe.skip : describe)('a server process that stands still', () => {
  let plane: ControlPlane;
  let scope: Scope;

  beforeAll(async () => {
    plane = await startControlPlane();
    await create(plane, '/api/v1/namespaces', { metadata: { name: OTHER } });
  }, rig.rigTimeout);
  beforeEach(async () => {
    scope = newScope();
    await prepareCluster(plane, 'pauses.test');
  });
  afterEach(async () => {
    await scope.end();
    await plane.request('DELETE', `${TRUST_DOMAINS}/main`);
    for (const name of ['signet-ca', 'signet-key-encryption'])
      await plane.request('DELETE', `${SECRETS}/${name}`);
    await plane.request('DELETE', `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`);
  });
  afterAll(() => plane?.close());

  const serve = (): Program => {
    const anyPort = '127.0.0.1:0';
    const flags = ['--kubeconfig', plane.kubeconfig, '--listen-address', anyPort, '--http-address', anyPort];
    return start(scope, signetCommand(['server', ...flags]));
  };

  it.each(['this replica leads', 'this installation owns the cluster', 'the server is ready'])(
    'past its term as soon as it says "%s" leads again soon, and does all that a leader does',
    async (line) => {
      const server = serve();
      await until(line, () => server.stderr().includes(line), 60_000);
      process.kill(server.pid, 'SIGSTOP');
      await pause(PAUSE_MS);
      process.kill(server.pid, 'SIGCONT');
      // A leader alone makes the authorities, tells of them, and publishes the bundle.
      await until('it signs', async () => (await conditionOf(plane, 'Ready')) === 'True Signing', 30_000);
      await until(
        'it publishes',
        async () => (await conditionOf(plane, 'BundlePublished')) === 'True Published',
        30_000,
      );
      const request = JSON.stringify({ action: 'rotate', kind: 'jwt', nonce: 'after' });
      await plane.kubectl([
        'annotate',
        'trustdomain',
        'main',
        '--overwrite',
        `signet.dev/ca-request=${request}`,
      ]);
      await until(
        'it does what is asked',
        async () => (await trustDomainStatusOf(plane)).request?.outcome === 'Succeeded',
        30_000,
      );
      expect(server.hasExited()).toBe(false);
    },
    120_000,
  );

  it('while another installation takes over ends when it stands up, and overwrites nothing', async () => {
    const first = serve();
    await until('it signs', async () => (await conditionOf(plane, 'Ready')) === 'True Signing', 60_000);
    process.kill(first.pid, 'SIGSTOP');
    const second = startClusterServer(plane, 'second', {
      ...{ namespace: OTHER, takeOverMs: 8_000, askEveryMs: 500 },
    });
    try {
      const owner = async (): Promise<string | undefined> => (await trustDomainStatusOf(plane)).servedBy;
      await until(
        'the second owns the cluster',
        async () => (await owner()) === `${OTHER}/signet-server`,
        60_000,
      );
      const { authorities } = await trustDomainStatusOf(plane);
      process.kill(first.pid, 'SIGCONT');
      const { code } = await first.exited;
      expect(code).not.toBe(0);
      expect(first.stderr()).toContain('ClusterOwnedByAnother');
      expect(await owner()).toBe(`${OTHER}/signet-server`);
      expect((await trustDomainStatusOf(plane)).authorities).toEqual(authorities);
    } finally {
      await second.stop();
    }
  }, 120_000);
});
