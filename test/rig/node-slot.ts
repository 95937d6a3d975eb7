/** A machine runs several nodes side by side: each has a number, and by it addresses, a link and a cgroup that no other has. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from '../support/until.js';

const run = promisify(execFile);

/** Says which numbers are taken, and by whom; one folder for all users of the machine. */
const LOCKS = join(tmpdir(), 'signet-rig-nodes');
const NUMBERS = Array.from({ length: 16 }, (_, number) => number);
const CGROUPS = '/sys/fs/cgroup';

export interface NodeSlot {
  /** The machine's end of the link, where the control plane listens. */
  readonly host: string;
  /** The node's. */
  readonly node: string;
  readonly podRange: string;
  readonly serviceRange: string;
  readonly apiService: string;
  readonly dnsService: string;
  /** Name of the machine's end of the link. */
  readonly link: string;
  /** Below the root of each hierarchy, e.g. `/signet-rig-0`. */
  readonly cgroup: string;
  /** Connects the network namespace of a process, and routes pods and services there. */
  connect(pid: number): Promise<void>;
  /** Removes what the machine has of a node whose processes are dead, and gives the number back. */
  release(): Promise<void>;
}

/** Takes a number for a node whose files are in `folder`. Clears what dead processes left of theirs first. */
export async function takeNodeSlot(folder: string): Promise<NodeSlot> {
  await mkdir(LOCKS, { recursive: true });
  return alone(async () => {
    const taken = new Set<number>();
    for (const number of NUMBERS) if (!(await isFree(number))) taken.add(number);
    for (const number of NUMBERS) {
      if (taken.has(number) || (await isUsedByMachine(number))) continue;
      const owner: Owner = { pid: process.pid, started: (await startOf(process.pid)) ?? '', folder };
      await writeFile(lockOf(number), JSON.stringify(owner));
      // What is sent to a node that is gone must not leave the machine by its default route.
      await run('ip', ['route', 'replace', 'unreachable', blockOf(number), 'metric', '4242']);
      return slotOf(number);
    }
    throw new Error(`no free number for a node: ${LOCKS} says who has them`);
  });
}

function slotOf(number: number): NodeSlot {
  const prefix = `10.${208 + number}`;
  const [podRange, serviceRange] = [`${prefix}.2.0/23`, `${prefix}.1.0/24`];
  const [host, node] = [`${prefix}.255.1`, `${prefix}.255.2`];
  const name = `signet-rig-${number}`;
  return {
    host,
    node,
    podRange,
    serviceRange,
    apiService: `${prefix}.1.1`,
    dnsService: `${prefix}.1.10`,
    link: name,
    cgroup: `/${name}`,
    async connect(pid): Promise<void> {
      const peer = ['peer', 'name', 'eth0', 'netns', String(pid)];
      await run('ip', ['link', 'add', name, 'type', 'veth', ...peer]);
      await run('ip', ['addr', 'add', `${host}/30`, 'dev', name]);
      await run('ip', ['link', 'set', name, 'up']);
      for (const range of [podRange, serviceRange]) await run('ip', ['route', 'add', range, 'via', node]);
    },
    async release(): Promise<void> {
      await clear(number);
      await rm(lockOf(number), { force: true });
    },
  };
}

const blockOf = (number: number): string => `10.${208 + number}.0.0/16`;
const lockOf = (number: number): string => join(LOCKS, String(number));

interface Owner {
  readonly pid: number;
  /** When the process started, so that another of the same number is not taken for it. */
  readonly started: string;
  readonly folder: string;
}

/** Runs something while no other process of the machine does. The kernel ends the wait of others when this process dies. */
async function alone<T>(action: () => Promise<T>): Promise<T> {
  const holder = spawn('flock', [join(LOCKS, '.mutex'), 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(holder, 'close');
  await Promise.race([once(holder.stdout, 'data'), ended]);
  try {
    return await action();
  } finally {
    holder.stdin.end();
    await ended;
  }
}

/** Whether nobody has the number; clears what somebody left who is dead. */
async function isFree(number: number): Promise<boolean> {
  const text = await readFile(lockOf(number), 'utf8').catch(() => undefined);
  if (text === undefined) return true;
  const owner = JSON.parse(text) as Owner;
  if ((await startOf(owner.pid)) === owner.started) return false;
  await clear(number);
  await rm(owner.folder, { recursive: true, force: true });
  await rm(lockOf(number), { force: true });
  return true;
}

/** When a process started (proc(5), field 22 of stat); undefined when it is dead, even if nobody has taken note of it yet. */
async function startOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? undefined : fields[19];
}

/** Whether the machine needs addresses of the block for itself. */
async function isUsedByMachine(number: number): Promise<boolean> {
  const said = await Promise.all([
    run('ip', ['-4', 'route', 'show', 'table', 'all']).then(({ stdout }) =>
      stdout.replaceAll(/^unreachable.*$/gm, ''),
    ),
    run('ip', ['-4', '-o', 'addr']).then(({ stdout }) => stdout),
    readFile('/etc/resolv.conf', 'utf8').catch(() => ''),
    readFile('/etc/hosts', 'utf8').catch(() => ''),
  ]);
  return said.some((text) => new RegExp(`(?<![\\d.])10\\.${208 + number}\\.`).test(text));
}

/** The kernel takes the link away with the namespace; cgroups stay until somebody removes them, once they are empty. */
async function clear(number: number): Promise<void> {
  const { link: name, cgroup } = slotOf(number);
  await run('ip', ['link', 'del', name]).catch(() => undefined);
  await run('ip', ['route', 'del', 'unreachable', blockOf(number)]).catch(() => undefined);
  const roots = hierarchies().map((root) => `${root}${cgroup}`);
  await until(`cgroups ${cgroup} that are empty`, async () => {
    for (const root of roots) await removeCgroup(root);
    return !roots.some((root) => existsSync(root));
  });
}

/** Those of version 1, or the one of version 2. */
function hierarchies(): readonly string[] {
  if (existsSync(join(CGROUPS, 'cgroup.controllers'))) return [CGROUPS];
  const names = readdirSync(CGROUPS).map((name) => join(CGROUPS, name));
  return names.filter((folder) => existsSync(join(folder, 'cgroup.procs')));
}

async function removeCgroup(folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeCgroup(join(folder, entry.name));
  }
  await rmdir(folder).catch(() => undefined);
}
