import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { X509Certificate } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';
import { agentClockValues, putAgentClock, type AgentClock } from './support/set-clock.js';
import { AGENT_NAMESPACE, SERVER_NAMESPACE, startNodeWorld, type NodeWorld } from './support/world.js';

/* An agent whose clock is ten minutes off, on a node of a cluster whose time is right. */

const LIMIT = 90_000;
/** After its clock was set. It is seconds on a machine with nothing else to do, and no back-off or kernel's patience is in it. */
const RECOVERY_LIMIT = 30_000;
const MINUTES = 60;
/** Of the identity `brief`, in ms. */
const BRIEF_MS = 20_000;

(isSkipped('node') ? describe.skip : describe)('a node with a wrong clock', () => {
  let world: NodeWorld;
  let clock: AgentClock;
  beforeAll(async () => {
    world = await startNodeWorld({ install: false });
    clock = await putAgentClock(world);
    await world.installSignet(agentClockValues);
    for (const [name, x509TTL] of [
      ['steady', '1h'],
      ['brief', `${BRIEF_MS / 1000}s`],
    ] as const)
      await world.apply({
        ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity' },
        metadata: { name, namespace: 'default' },
        spec: { podSelector: { matchLabels: { app: name } }, x509TTL },
      });
    for (const name of ['steady', 'brief']) await start(name, name);
    for (const name of ['steady', 'brief']) await world.podIs('Ready', name);
  }, rigTimeout);
  afterEach(() => clock.setAhead(0));
  afterAll(() => world?.close());

  const start = (name: string, app: string): Promise<void> =>
    world.applyPod({ name, labels: { app }, volume: { files: 'pem' } });
  /** The SVID in a pod's files, if there is one. */
  const svidOf = async (name: string): Promise<X509Certificate | undefined> => {
    await pause(250);
    const { code, stdout } = await world.exec(name, ['cat', '/run/spiffe/tls.crt']);
    return code === 0 && stdout !== '' ? new X509Certificate(stdout) : undefined;
  };
  const isValid = ({ validFromDate, validToDate }: X509Certificate, now: number): boolean =>
    validFromDate.getTime() <= now && now < validToDate.getTime();
  const agentSays = (part: RegExp): Promise<string> =>
    until(
      `a line of the agent like ${String(part)}`,
      async () => {
        await pause(250);
        const log = await world.kubectl('logs', 'daemonset/signet-agent', `--namespace=${AGENT_NAMESPACE}`);
        return log.split('\n').findLast((line) => part.test(line));
      },
      LIMIT,
    );
  const scaleServer = async (replicas: number): Promise<void> => {
    const server = ['deployment/signet-server', `--namespace=${SERVER_NAMESPACE}`];
    await world.kubectl('scale', ...server, `--replicas=${replicas}`);
    if (replicas > 0) await world.kubectl('rollout', 'status', ...server, '--timeout=90s');
  };

  it('that is behind gives SVIDs that are valid by the right time, and renews them by it', async () => {
    await clock.setAhead(-10 * MINUTES);
    await start('late', 'steady');
    await world.podIs('Ready', 'late');
    expect(await agentSays(/ClockSkewed/)).toMatch(/(599|60\d) s behind that of the server.*set the clocks/);
    const serials = new Set<string>();
    await until(
      'two renewals of an SVID that lives for 20 s',
      async () => {
        const asked = Date.now();
        const svid = await svidOf('brief');
        expect(svid === undefined ? undefined : isValid(svid, asked)).toBe(true);
        if (svid !== undefined) serials.add(svid.serialNumber);
        return serials.size > 2;
      },
      LIMIT,
    );
  });

  it('that is behind keeps no SVID beyond its end, says why it does not believe the server, and goes on when it is set', async () => {
    await clock.setAhead(-10 * MINUTES);
    await scaleServer(0);
    let last = await svidOf('brief');
    await until(
      'the end of an SVID',
      async () => {
        const svid = await svidOf('brief');
        last = svid ?? last;
        return svid === undefined;
      },
      LIMIT,
    );
    const end = last?.validToDate.getTime() ?? 0;
    // Not before, and not minutes after.
    expect(Date.now()).toBeGreaterThanOrEqual(end - 1_000);
    expect(Date.now()).toBeLessThan(end + 30_000);
    expect(await svidOf('steady')).toBeDefined();
    await scaleServer(1);
    // The server's own SVID begins with its start.
    expect(await agentSays(/certificate is refused.* is valid from .* only/)).toBeDefined();
    await clock.setAhead(0);
    const again = await until('another SVID', () => svidOf('brief'), RECOVERY_LIMIT);
    expect(isValid(again, Date.now())).toBe(true);
  });

  it('that is ahead tells a pod why it has no SVID, keeps those of the others, and goes on when it is set', async () => {
    await clock.setAhead(10 * MINUTES);
    await start('hasty', 'brief');
    const told = await until(
      'an event of the pod',
      async () => (await world.eventsOf('hasty')).find((event) => event.includes('clocks')),
      LIMIT,
    );
    expect(told).toMatch(/^FailedMount: .*expired already; compare the clocks of both machines/);
    expect(await svidOf('steady')).toBeDefined();
    await clock.setAhead(0);
    await world.podIs('Ready', 'hasty');
    const svid = await svidOf('hasty');
    expect(svid === undefined ? undefined : isValid(svid, Date.now() - 1_000)).toBe(true);
  });
});
