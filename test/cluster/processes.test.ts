import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { start, type Program } from '../e2e/support/process.js';
import { newScope } from '../e2e/support/scope.js';
import { signetCommand } from '../e2e/support/signet.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import * as rig from '../rig/rig.js';
import {
  agentToken,
  boundPod,
  bundleOf,
  deletePod,
  makePod,
  prepareWorkloads,
} from '../support/cluster-agents.js';
import { prepareCluster } from '../support/cluster-server.js';
import { startFront, type Front } from '../support/front.js';
import { until } from '../support/until.js';

/* `signet server` and `signet agent` as they are run, and killed. */

const TRUST_DOMAIN = 'processes.test';
const NODE = 'n1';

interface ServerProcess {
  readonly program: Program;
  readonly port: number;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('servers and an agent as processes', () => {
  const scope = newScope();
  let plane: ControlPlane;
  let front: Front;
  let folder: string;
  let httpPort: number;

  const serve = async (): Promise<ServerProcess> => {
    const [port = 0] = await freePorts(1);
    const address = `127.0.0.1:${port}`;
    const program = start(
      scope,
      signetCommand([
        ...['server', '--kubeconfig', plane.kubeconfig, '--http-address', '127.0.0.1:0'],
        ...['--listen-address', address, '--advertise-address', address],
      ]),
    );
    await until('a server that is ready', () => {
      if (program.hasExited()) throw new Error(program.stderr().slice(-3000));
      return program.stderr().includes('the server is ready');
    });
    return { program, port };
  };
  const runAgent = (): Program =>
    start(
      scope,
      signetCommand([
        ...['agent', '--trust-domain', TRUST_DOMAIN, '--server', `127.0.0.1:${front.port}`],
        ...['--token-file', join(folder, 'token'), '--bundle-file', join(folder, 'bundle.json')],
        ...['--http-address', `127.0.0.1:${httpPort}`, '--no-csi'],
      ]),
    );
  /** How many X.509-SVIDs the agent says that it has; undefined while it says nothing. */
  const svids = async (): Promise<number | undefined> => {
    const answer = await fetch(`http://127.0.0.1:${httpPort}/metrics`).catch(() => undefined);
    const line = /^signet_agent_svids\{kind="x509"\} (\d+)$/m.exec((await answer?.text()) ?? '');
    return line === null ? undefined : Number(line[1]);
  };
  const has = (count: number): Promise<boolean> =>
    until(`${count} SVIDs`, async () => (await svids()) === count, 60_000).then(() => true);

  beforeAll(async () => {
    plane = await startControlPlane();
    await prepareCluster(plane, TRUST_DOMAIN);
    await prepareWorkloads(plane, 'shop');
    folder = scope.folder();
    [httpPort = 0] = await freePorts(1);
  }, rig.rigTimeout);
  afterAll(async () => {
    await scope.end();
    await plane?.close();
  });

  it('outlast each other: SVIDs come through SIGKILL and SIGTERM of the replica in use, and of the agent', async () => {
    const [one, two] = [await serve(), await serve()];
    front = await startFront(one.port);
    scope.onEnd(() => front.close());
    await writeFile(join(folder, 'token'), await agentToken(plane, NODE));
    await writeFile(join(folder, 'bundle.json'), await bundleOf(plane, TRUST_DOMAIN));
    const agent = runAgent();
    for (let at = 0; at < 5; at++) await makePod(plane, 'shop', boundPod(`web-${at}`, NODE));
    await has(5);

    // The replica that leads, and that the agent follows, is gone from one moment to the next.
    front.to(two.port);
    await one.program.kill('SIGKILL');
    await makePod(plane, 'shop', boundPod('web-5', NODE));
    await deletePod(plane, 'shop', 'web-0');
    await makePod(plane, 'shop', boundPod('web-6', NODE));
    await has(6);

    // The other one is told to end while a third is there.
    const three = await serve();
    front.to(three.port);
    expect(await two.program.kill('SIGTERM')).toEqual({ code: 0, signal: null });
    await makePod(plane, 'shop', boundPod('web-7', NODE));
    await has(7);
    expect(agent.hasExited()).toBe(false);

    // A new agent takes the place of one that was killed: the token is good for it too.
    await agent.kill('SIGKILL');
    const next = runAgent();
    await has(7);
    expect(await next.kill('SIGTERM')).toEqual({ code: 0, signal: null });
    const { program } = three;
    expect(await program.kill('SIGTERM')).toEqual({ code: 0, signal: null });
    for (const { stderr } of [agent, next, one.program, two.program, program]) {
      expect(stderr()).not.toContain('PRIVATE KEY');
      expect(stderr()).not.toMatch(/eyJ[\w-]{20}/);
    }
  }, 180_000);
});
