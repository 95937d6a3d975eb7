import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { csiSockets } from '../../../src/agent/csi/serve.js';
import { connectUnix, type RpcConnection, type TypedClient } from '../../../src/rpc/client.js';
import { csiNodeService } from '../../../src/rpc/services.js';
import { until } from '../../support/until.js';

const here = dirname(fileURLToPath(import.meta.url));

/** How a driver process behaves, beside what it is for. */
export interface DriverOptions {
  /** Kills itself (SIGKILL) just before this step, the so many-th time that it comes: `bind`, `look`, `unbind`, `content`. */
  readonly dieBefore?: string;
  /** Does not open content before a file `go` is in the node's directory. */
  readonly slow?: boolean;
}

/** A driver that runs in the node's mount namespace. */
export interface DriverProcess {
  readonly process: ChildProcess;
  /** Its log lines so far. */
  readonly log: readonly string[];
  /** Resolves with how it ended. */
  readonly ended: Promise<string>;
  kill(signal: NodeJS.Signals): void;
}

/** A machine for drivers: a mount namespace of its own that outlives them, with a kubelet's directory. Needs root. */
export interface CsiNode {
  readonly directory: string;
  readonly kubelet: string;
  readonly state: string;
  /** A path as it is in the namespace, seen from outside. */
  inside(path: string): string;
  /** Starts a driver, and waits until the kubelet could call it. */
  start(options?: DriverOptions): Promise<DriverProcess>;
  dial(): RpcConnection;
  /** Calls the driver over a connection of its own, as the kubelet does. */
  call<T>(act: (client: TypedClient<typeof csiNodeService>) => Promise<T>): Promise<T>;
  /** Where a pod's volume goes, with its directory as the kubelet makes it. */
  target(podUid: string, name?: string): Promise<string>;
  /** Mount points below a directory, from the kernel. */
  mounts(below: string): readonly { readonly at: string; readonly options: string }[];
  /** Runs a program in the namespace. */
  run(file: string, ...args: string[]): Promise<string>;
  close(): Promise<void>;
}

export async function startCsiNode(): Promise<CsiNode> {
  const directory = await mkdtemp(join(tmpdir(), 'csi-'));
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', 'infinity'], {
    stdio: 'ignore',
  });
  await once(holder, 'spawn');
  const own = `/proc/${holder.pid ?? 0}`;
  // It becomes what it runs when the namespace is made.
  await until('the namespace', () => readFileSync(`${own}/comm`, 'utf8') === 'sleep\n');
  const kubelet = join(directory, 'kubelet');
  const state = join(directory, 'state');
  await mkdir(join(kubelet, 'plugins_registry'), { recursive: true });
  const children = new Set<ChildProcess>([holder]);
  const connections = new Set<RpcConnection>();
  const into = (file: string, args: readonly string[]): ChildProcess => {
    const child = spawn('nsenter', [`--mount=${own}/ns/mnt`, file, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.add(child);
    return child;
  };
  return {
    ...{ directory, kubelet, state },
    inside: (path) => `${own}/root${path}`,
    async start(options = {}) {
      const program = join(here, 'csi-driver.ts');
      const child = into(process.execPath, [
        ...[
          '--import',
          join(here, '../../support/run-typescript.mjs'),
          '--disable-warning=ExperimentalWarning',
        ],
        ...[program, JSON.stringify({ directory, kubelet, state, ...options })],
      ]);
      const log: string[] = [];
      const ready = Promise.withResolvers<undefined>();
      if (child.stdout === null || child.stderr === null) throw new Error('no output');
      createInterface({ input: child.stdout }).on('line', (line) => {
        log.push(line);
        if (line === 'serving') ready.resolve(undefined);
      });
      createInterface({ input: child.stderr }).on('line', (line) => log.push(line));
      const ended = new Promise<string>((resolve) => {
        child.once('exit', (code, signal) => {
          const how = String(signal ?? code);
          ready.reject(new Error(`the driver ended with ${how}:\n${log.join('\n')}`));
          resolve(how);
        });
      });
      await ready.promise;
      return { process: child, log, ended, kill: (signal) => void child.kill(signal) };
    },
    dial() {
      const connection = connectUnix(csiSockets(kubelet).driver, { deadlineMs: 20_000 });
      connections.add(connection);
      return connection;
    },
    async call(act) {
      const connection = connectUnix(csiSockets(kubelet).driver, { deadlineMs: 20_000 });
      try {
        return await act(connection.client(csiNodeService));
      } finally {
        connection.close();
      }
    },
    async target(podUid, name = 'identity') {
      const parent = join(kubelet, 'pods', podUid, 'volumes/kubernetes.io~csi', name);
      await mkdir(parent, { recursive: true });
      return join(parent, 'mount');
    },
    mounts: (below) =>
      readFileSync(`${own}/mountinfo`, 'utf8')
        .split('\n')
        .map((line) => line.split(' '))
        .filter((fields) => fields[4]?.startsWith(below))
        .map((fields) => ({ at: fields[4] ?? '', options: fields[5] ?? '' })),
    async run(file, ...args) {
      const child = into(file, args);
      let text = '';
      for (const stream of [child.stdout, child.stderr])
        stream?.on('data', (part: Buffer) => (text += part.toString()));
      const [code] = (await once(child, 'close')) as [number];
      if (code !== 0) throw new Error(`${file} ended with ${code}: ${text}`);
      return text;
    },
    async close() {
      for (const connection of connections) connection.close();
      for (const child of children) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const gone = once(child, 'exit');
        child.kill('SIGKILL');
        await gone;
      }
      await rm(directory, { recursive: true, force: true });
    },
  };
}
