/** The real Envoy with any configuration: started, observed, stopped. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../support/until.js';
import type { Json } from './envoy-config.js';
import * as rig from './rig.js';

/** An Envoy whose listeners listen. */
export interface EnvoyProxy {
  readonly pid: number;
  /** Where the listener of this name is, when it is on a port. */
  port(listener: string): number;
  /** Asks its administration, over a unix socket; the body of the answer. */
  admin(path: string, method?: 'GET' | 'POST'): Promise<string>;
  /** The counters and gauges whose name has `part`, e.g. `rbac`, as they are now. */
  stats(part: string): Promise<Readonly<Record<string, number>>>;
  /** What it has said. */
  log(): string;
  stop(): Promise<void>;
}

interface Listening {
  readonly name: string;
  readonly local_address?: { readonly socket_address?: { readonly port_value?: number } };
}

/**
 * Starts Envoy and waits until it is live and each static listener listens, which with SDS is after its secrets have come.
 * `config` is a bootstrap without `admin`. Throws with what Envoy said when it ends instead.
 */
export async function startEnvoyProxy(config: Json): Promise<EnvoyProxy> {
  const binary = await rig.envoy();
  const folder = await mkdtemp(join(tmpdir(), 'ev-')); // short: a unix socket's path has 107 bytes at most
  const adminSocket = join(folder, 'admin.sock');
  const file = join(folder, 'envoy.json');
  await writeFile(file, JSON.stringify({ ...config, admin: { address: { pipe: { path: adminSocket } } } }));
  // Without hot restart and with one worker: several run at once on a small machine.
  const args = ['-c', file, '--disable-hot-restart', '--concurrency', '1', '--log-level', 'warning'];
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  const keep = (chunk: Buffer): void => {
    log = (log + chunk.toString()).slice(-200_000);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  let exited = false;
  const end = new Promise<void>((resolve) => {
    const over = (): void => {
      exited = true;
      resolve();
    };
    child.on('error', (error) => {
      log += String(error);
      over();
    });
    child.on('close', over);
  });
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await end;
    await rm(folder, { recursive: true, force: true });
  };
  const admin = (path: string, method: 'GET' | 'POST' = 'GET'): Promise<string> =>
    ask(adminSocket, path, method);
  const ports = new Map<string, number>();
  const ready = async (): Promise<boolean> => {
    if (exited) return true;
    // LIVE is said once the first secrets are there; before that, a listener would reset connections.
    if (!(await admin('/ready')).startsWith('LIVE')) return false;
    const { listener_statuses: listening = [] } = JSON.parse(await admin('/listeners?format=json')) as {
      readonly listener_statuses?: readonly Listening[];
    };
    for (const { name, local_address: at } of listening) ports.set(name, at?.socket_address?.port_value ?? 0);
    return listening.length >= countListeners(config);
  };
  try {
    await until('an Envoy with its listeners', ready);
    if (exited) throw new Error(`Envoy ended: ${log.slice(-4000)}`);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    pid: child.pid ?? -1,
    port(name): number {
      const port = ports.get(name);
      if (port === undefined || port === 0) throw new Error(`Envoy has no port for a listener ${name}`);
      return port;
    },
    admin,
    async stats(part): Promise<Readonly<Record<string, number>>> {
      // One line each, `name: value`; histograms are not asked for.
      const lists = await Promise.all(['Counters', 'Gauges'].map((type) => admin(`/stats?type=${type}`)));
      const pairs = lists.flatMap((list) => list.trim().split('\n')).map((line) => line.split(': '));
      const wanted = pairs.filter(([name]) => name?.includes(part) === true);
      return Object.fromEntries<number>(wanted.map(([name = '', value]) => [name, Number(value)]));
    },
    log: () => log,
    stop,
  };
}

function countListeners(config: Json): number {
  const { listeners = [] } = (config['static_resources'] ?? {}) as {
    readonly listeners?: readonly unknown[];
  };
  return listeners.length;
}

/** What Envoy has against a bootstrap (`--mode validate`); nothing when it would start with it. */
export async function validateConfig(config: Json): Promise<string> {
  const binary = await rig.envoy();
  const folder = await mkdtemp(join(tmpdir(), 'ev-'));
  try {
    const file = join(folder, 'envoy.json');
    await writeFile(file, JSON.stringify(config));
    const child = spawn(binary, ['--mode', 'validate', '-c', file, '--log-level', 'warning'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (log += String(chunk)));
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    return code === 0 ? '' : log.trim() || `Envoy ended with ${code}`;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function ask(socketPath: string, path: string, method: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, method, agent: false, timeout: 15_000 }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('error', reject);
      response.on('end', () => resolve(body));
    });
    call.on('timeout', () => call.destroy(new Error('no answer within 15 s')));
    call.on('error', reject);
    call.end();
  });
}
