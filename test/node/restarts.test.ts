import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { setTimeout as pause } from 'node:timers/promises';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';
import { linesOf, prepareKeepers, startKeepers, type KeeperLine } from './support/keepers.js';
import { killAgent } from './support/kill-agent.js';
import { AGENT_NAMESPACE, SERVER_NAMESPACE, startNodeWorld, type NodeWorld } from './support/world.js';

/*
 * Whatever is restarted, replaced or rotated: pods with an X509Source of go-spiffe open have a valid SVID all the while, none of
 * their mTLS calls to one another fails (each on a new connection), and their streams come back. Twenty pods that each call every
 * 100 ms, unless SIGNET_NODE_PODS says how many and SIGNET_NODE_CALL_MS how often; a full node is 110 pods.
 */

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const run = promisify(execFile);
const PODS = Number(process.env['SIGNET_NODE_PODS'] ?? 20);
/** Two cores do some 200 calls a second and the rest beside: more pods call less often, unless told. */
const EVERY_MS = Number(process.env['SIGNET_NODE_CALL_MS'] ?? Math.max(100, PODS * 5));
/** What a machine may take longer for with more pods. */
const LIMIT_MS = 60_000 + 1000 * PODS;

jest.setTimeout(4 * LIMIT_MS);

(isSkipped('node') ? describe.skip : describe)('pods with open streams', () => {
  let world: NodeWorld;
  beforeAll(async () => {
    // A kubelet takes 110 pods unless told, of which some are Signet's and the cluster's.
    world = await startNodeWorld({ kubeletConfig: { maxPods: Math.max(110, PODS + 20) } });
    await prepareKeepers(world, PODS > 30 ? 'one' : 'any');
    // Who asks for nothing has next to nothing on a busy machine, and its calls time out.
    await startKeepers(world, { pods: PODS, everyMs: EVERY_MS, calls: true, cpu: '10m' });
    // The first calls of the first pods find no others yet.
    await callsOfAll();
  }, rigTimeout);
  afterAll(() => world.close());

  /** The last sums of each pod since then. */
  const sums = async (since: number): Promise<ReadonlyMap<string, KeeperLine>> =>
    new Map(
      (await linesOf(world, since)).filter((line) => (line.calls ?? 0) > 0).map((line) => [line.pod, line]),
    );

  const callsOfAll = async (): Promise<void> => {
    let calling = 0;
    const doAll = async (): Promise<boolean> => {
      await breath();
      calling = (await sums(Date.now() - 10_000)).size;
      return calling === PODS;
    };
    try {
      await until('calls of every pod', doAll, LIMIT_MS);
    } catch (error) {
      throw new Error(`${calling} of ${PODS} pods call`, { cause: error });
    }
  };
  /** The logs of all pods are much to ask for. */
  const breath = (): Promise<void> => pause(Math.max(500, PODS * 25));

  /**
   * Does it, waits until every pod has a stream and looks well afterwards, and says how often a pod asked for its stream in vain
   * or lost it.
   */
  const through = async (
    act: () => Promise<void>,
    isDone: (line: KeeperLine) => boolean = () => true,
  ): Promise<readonly KeeperLine[]> => {
    const began = Date.now();
    await act();
    const acted = Date.now();
    await until(
      'streams of all pods',
      async () => {
        await breath();
        const last = [...(await sums(acted)).values()];
        return last.length === PODS && last.every((line) => line.open === true && isDone(line));
      },
      LIMIT_MS,
    );
    const lines = await linesOf(world, began);
    expect(lines.filter((line) => line.failed !== undefined || line.invalid !== undefined)).toEqual([]);
    expect(lines.filter((line) => line.error !== undefined)).toEqual([]);
    const calls = callsOf(lines);
    // Each pod looks and calls that often on a machine with nothing else to do.
    expect(calls).toBeGreaterThan(PODS);
    const outages = lines.flatMap((line) => line.outage ?? []);
    process.stdout.write(
      `${expect.getState().currentTestName}: ${calls} calls in ${Date.now() - began} ms, ` +
        `${outages.length} streams lost, for at most ${Math.max(0, ...outages)} ms\n`,
    );
    return lines.filter((line) => line.watchError !== undefined);
  };

  const roll = async (kind: string, name: string, namespace: string): Promise<void> => {
    await world.kubectl('rollout', 'restart', `${kind}/${name}`, `--namespace=${namespace}`);
    await rolled(kind, name, namespace);
  };
  const rolled = async (kind: string, name: string, namespace: string): Promise<void> => {
    await world.kubectl('rollout', 'status', `${kind}/${name}`, `--namespace=${namespace}`, '--timeout=120s');
  };
  const agentRolled = (): Promise<void> => rolled('daemonset', 'signet-agent', AGENT_NAMESPACE);
  const ca = async (...args: string[]): Promise<readonly Authority[]> => {
    const command = [join(root, 'bin', 'signet'), 'ca', ...args, '--output=json'];
    const { stdout } = await run(process.execPath, [...command, `--kubeconfig=${world.cluster.kubeconfig}`]);
    return (JSON.parse(stdout) as { readonly authorities: readonly Authority[] }).authorities;
  };

  it('live through a roll-out of the agent', async () => {
    const errors = await through(() => roll('daemonset', 'signet-agent', AGENT_NAMESPACE));
    // The next agent has the sockets before the last one closes its streams: the first try, a second later, finds it.
    expect(errors).toHaveLength(PODS);
  });

  it('live through the deletion of the agent', async () => {
    const errors = await through(async () => {
      await world.kubectl('delete', 'pods', '--all', `--namespace=${AGENT_NAMESPACE}`);
      await agentRolled();
    });
    // The last agent serves until the next one has taken over.
    expect(errors).toHaveLength(PODS);
  });

  it('live through an agent that is killed', async () => {
    const errors = await through(async () => {
      process.stdout.write(`the agent is back after ${await killAgent(world)} ms\n`);
      await agentRolled();
    });
    expect(new Set(errors.map(({ pod }) => pod)).size).toBe(PODS);
  });

  it('notice nothing of a roll-out of the server', async () => {
    expect(await through(() => roll('deployment', 'signet-server', SERVER_NAMESPACE))).toEqual([]);
  });

  it('notice nothing of a kubelet that is killed', async () => {
    expect(await through(() => world.cluster.restartKubelet())).toEqual([]);
  });

  it('live through an upgrade by Helm', async () => {
    const chart = join(root, 'charts', 'signet');
    const changed = ['--reuse-values', '--set=agent.logLevel=debug', '--set=server.logLevel=debug'];
    await through(async () => {
      await world.helm('upgrade', 'signet', chart, `--namespace=${SERVER_NAMESPACE}`, '--wait', ...changed);
      await agentRolled();
      await rolled('deployment', 'signet-server', SERVER_NAMESPACE);
    });
  });

  it('have SVIDs of another authority after a rotation, a taint and a revocation, without a stream that ends', async () => {
    const idOf = (authorities: readonly Authority[], slot: string): string => {
      const found = authorities.find((one) => one.kind === 'X509' && one.slot === slot);
      if (found === undefined) throw new Error(`no ${slot} authority in ${JSON.stringify(authorities)}`);
      return found.id;
    };
    const former = idOf(await ca('show'), 'Active');
    const rotated = await through(async () => {
      await ca('rotate', '--kind=x509');
    });
    const next = idOf(await ca('show'), 'Active');
    expect(next).not.toBe(former);
    const replaced = await through(
      async () => {
        await ca('taint', former);
      },
      (line) => line.authority === next,
    );
    const revoked = await through(async () => {
      await ca('revoke', former);
    });
    expect([...rotated, ...replaced, ...revoked]).toEqual([]);
  });
});

interface Authority {
  readonly kind: string;
  readonly slot: string;
  readonly id: string;
}

/** How many calls the pods made between their first and last lines. */
function callsOf(lines: readonly KeeperLine[]): number {
  const counts = new Map<string, number[]>();
  for (const { pod, calls } of lines)
    if (calls !== undefined) counts.set(pod, [...(counts.get(pod) ?? []), calls]);
  return [...counts.values()].reduce((sum, all) => sum + Math.max(...all) - Math.min(...all), 0);
}
