import { readFile, readlink } from 'node:fs/promises';

/** One process, so that another with the same number is never taken for it. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in the kernel's ticks since boot. */
  readonly startTime: string;
  /** The boot that these numbers belong to. */
  readonly bootId: string;
  /** The pid namespace (a container has its own) that the pid belongs to. */
  readonly pidNamespace: string;
}

/** The processes of the machine, as far as a lock must know them. */
export interface ProcessTable {
  self(): Promise<ProcessIdentity>;
  /** Whether it still runs; `unknown` when it cannot be seen from here. */
  state(process: ProcessIdentity): Promise<'alive' | 'dead' | 'unknown'>;
}

/** The processes that Linux shows in /proc. */
export const linuxProcesses: ProcessTable = {
  async self() {
    const stat = parseStat(await readFile('/proc/self/stat', 'latin1'));
    return { pid: stat.pid, startTime: stat.startTime, ...(await surroundings()) };
  },

  async state(process) {
    const here = await surroundings();
    // Nothing survives a boot.
    if (process.bootId !== here.bootId) return 'dead';
    if (process.pidNamespace !== here.pidNamespace) return 'unknown';
    let text: string;
    try {
      text = await readFile(`/proc/${process.pid}/stat`, 'latin1');
    } catch {
      return 'dead';
    }
    const stat = parseStat(text);
    // A zombie has been killed and holds nothing any more; its parent has only not looked yet.
    return stat.startTime === process.startTime && !'ZXx'.includes(stat.state) ? 'alive' : 'dead';
  },
};

async function surroundings(): Promise<{ bootId: string; pidNamespace: string }> {
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'latin1');
  return { bootId: bootId.trim(), pidNamespace: await readlink('/proc/self/ns/pid') };
}

/** /proc/PID/stat, proc(5): the name in parentheses may itself hold spaces and parentheses. */
function parseStat(text: string): { pid: number; state: string; startTime: string } {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { pid: Number.parseInt(text, 10), state: fields[0] ?? '', startTime: fields[19] ?? '' };
}
