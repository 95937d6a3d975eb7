import { join } from 'node:path';
import type { Clock } from '../../lib/clock.js';
import { sleep } from '../../lib/clock.js';
import type { Random } from '../../lib/random.js';
import type { FileOps } from '../keys/files.js';
import { temporaryName } from '../keys/files.js';
import { JournalError } from './journal.js';
import type { ProcessIdentity, ProcessTable } from './processes.js';

/** An exclusive claim on a state directory. */
export interface StateLock {
  release(): Promise<void>;
}

/** What the lock works with. */
export interface StateLockOptions {
  readonly directory: string;
  readonly files: FileOps;
  readonly clock: Clock;
  readonly random: Random;
  readonly processes: ProcessTable;
}

interface Claim extends ProcessIdentity {
  /** The claim's name; also decides between two that claim at the same moment. */
  readonly nonce: string;
  readonly phase: 'claiming' | 'held';
}

const PREFIX = 'lock.';
const NAME = /^lock\.[0-9a-f]{16}$/;
/** A claim that its process was killed while it wrote. */
const UNFINISHED = /^\.lock\.[0-9a-f]{16}\.tmp$/;
const MAX_CLAIM_BYTES = 4096;
const WAIT_MS = 5;
const MAX_WAITS = 1000;

/**
 * Claims a state directory for this process, or refuses.
 *
 * Node has no flock(2), and a lock file that must be deleted when its owner was killed invites a race: two processes
 * find it stale, one deletes it and makes its own, the other deletes *that*. So nobody deletes before he owns. Each
 * process first announces itself in a file of its own (`lock.<random>`, with pid and start time), and only then looks
 * around. Of two that come together, the one that announced later must see the other:
 *
 * - the other *holds* the directory and lives: refuse;
 * - the other is *claiming* too: the larger name withdraws, the smaller waits to see what becomes of the larger;
 * - the other is dead: its file means nothing, and goes once we hold the directory.
 *
 * @throws JournalError `StateLocked`
 */
export async function lockState(options: StateLockOptions): Promise<StateLock> {
  const { directory, files, random, clock } = options;
  const self = await options.processes.self();
  const nonce = Buffer.from(random.bytes(8)).toString('hex');
  const path = join(directory, `${PREFIX}${nonce}`);
  const temporary = join(directory, temporaryName(`${PREFIX}${nonce}`));
  // Whole from the moment it has its name. That moment need not reach the disk: no claim outlives a boot.
  const write = async (phase: Claim['phase']): Promise<void> => {
    const claim: Claim = { ...self, nonce, phase };
    await files.create(temporary, Buffer.from(`${JSON.stringify(claim)}\n`));
    await files.rename(temporary, path);
  };

  try {
    await write('claiming');
    for (let waits = 0; ; waits++) {
      const { rivals, stale } = await lookAround(options, nonce);
      const winner = rivals.find((rival) => rival.phase === 'held' || rival.nonce < nonce);
      if (winner !== undefined) throw locked(directory, `process ${winner.pid} uses it`);
      if (rivals.length === 0) {
        await write('held');
        for (const name of stale) await files.remove(join(directory, name));
        return { release: () => files.remove(path) };
      }
      if (waits === MAX_WAITS) throw locked(directory, `process ${rivals[0]?.pid ?? 0} is about to use it`);
      await sleep(clock, WAIT_MS);
    }
  } catch (error) {
    for (const one of [path, temporary]) await files.remove(one).catch(() => undefined);
    throw error;
  }
}

/** Who else claims the directory and may be alive, and which files are left of the dead. */
async function lookAround(
  options: StateLockOptions,
  nonce: string,
): Promise<{ rivals: Claim[]; stale: string[] }> {
  const { directory, files, processes } = options;
  const rivals: Claim[] = [];
  const stale: string[] = [];
  for (const name of await files.list(directory)) {
    const unfinished = UNFINISHED.test(name);
    if ((!unfinished && !NAME.test(name)) || name === `${PREFIX}${nonce}`) continue;
    const data = await files.read(join(directory, name), MAX_CLAIM_BYTES);
    if (data === undefined) continue;
    const claim = parseClaim(data);
    // Whoever is still writing has not looked around yet, and will see us when he does.
    if (unfinished && (claim === undefined || (await processes.state(claim)) !== 'dead')) continue;
    if (claim === undefined) {
      throw locked(
        directory,
        `${name} cannot be read. If no other signet uses the directory, remove that file`,
      );
    }
    const state = await processes.state(claim);
    if (state === 'dead') {
      stale.push(name);
    } else if (state === 'unknown') {
      throw locked(
        directory,
        `process ${claim.pid} of another container claims it. If that one is gone, remove ${name}`,
      );
    } else {
      rivals.push(claim);
    }
  }
  return { rivals, stale };
}

function parseClaim(data: Uint8Array): Claim | undefined {
  try {
    const claim = JSON.parse(Buffer.from(data).toString('utf8')) as Partial<Claim>;
    const texts = [claim.startTime, claim.bootId, claim.pidNamespace, claim.nonce];
    const whole = typeof claim.pid === 'number' && texts.every((text) => typeof text === 'string');
    return whole && (claim.phase === 'claiming' || claim.phase === 'held') ? (claim as Claim) : undefined;
  } catch {
    return undefined;
  }
}

function locked(directory: string, why: string): JournalError {
  return new JournalError(
    'StateLocked',
    `state directory ${directory} is in use: ${why}. Stop it, or choose another directory with --state`,
  );
}
