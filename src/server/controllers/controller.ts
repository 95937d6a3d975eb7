import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { WorkQueue, type Priority } from '../../lib/work-queue.js';

/**
 * Brings the world in line with what is asked under a key, whatever it was before: the key is all that it is told, so it
 * reads the present state itself and may be called at any time and any number of times.
 *
 * Rejects when it could not; it is then called again after a back-off, unless the error is a {@link TerminalError}.
 */
export type Reconcile = (key: string, run: ReconcileRun) => Promise<ReconcileResult | undefined>;

/** What one run knows of itself. */
export interface ReconcileRun {
  /** Names the run in all log lines. */
  readonly logger: Logger;
  /** Aborted when the controller stops: what is not begun yet must not begin. */
  readonly signal: AbortSignal;
}

export interface ReconcileResult {
  /** Look again after this time though nothing was heard; milliseconds. */
  readonly requeueAfterMs?: number;
}

/** A failure that trying again cannot mend: only a change of the object, or of what it needs, will. */
export class TerminalError extends SignetError {}

/** What a controller is made of. */
export interface ControllerOptions {
  /** For logs and metrics: `access-policy`. */
  readonly name: string;
  readonly reconcile: Reconcile;
  /** Keys worked on at a time; 4 unless said. */
  readonly concurrency?: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Told of each run that ended. `seconds` by the monotonic clock. */
  readonly observe?: (outcome: ReconcileOutcome, seconds: number) => void;
}

export type ReconcileOutcome = 'success' | 'requeue' | 'error' | 'terminal_error';

/** Works through the keys that it is told of. */
export interface Controller {
  readonly name: string;
  /** Something about the key has changed, or may have. */
  enqueue(key: string, priority?: Priority): void;
  /** Keys that wait. */
  readonly length: number;
  /** Works until the signal is aborted; resolves when what was under way is over. */
  run(signal: AbortSignal): Promise<void>;
}

const CONCURRENCY = 4;

/** A controller; keys may be enqueued before it runs. It runs once. */
export function createController(options: ControllerOptions): Controller {
  const { name, clock, random } = options;
  const logger = options.logger.child({ controller: name });
  const queue = new WorkQueue({ clock, random });
  let runs = 0;

  const work = async (key: string, signal: AbortSignal): Promise<void> => {
    const began = clock.monotonic();
    const run = { logger: logger.child({ key, reconcileId: `${name}-${++runs}` }), signal };
    let outcome: ReconcileOutcome = 'success';
    try {
      const result = await options.reconcile(key, run);
      queue.forget(key);
      if (result?.requeueAfterMs !== undefined) {
        outcome = 'requeue';
        queue.addAfter(key, result.requeueAfterMs);
      }
    } catch (thrown) {
      outcome = failed(key, thrown, run);
    } finally {
      queue.done(key);
      tell(outcome, (clock.monotonic() - began) / 1000);
    }
  };

  /** Who watches must not stop who works. */
  const tell = (outcome: ReconcileOutcome, seconds: number): void => {
    try {
      options.observe?.(outcome, seconds);
    } catch (thrown) {
      logger.error('an observer failed', { reason: SignetError.from(thrown).message });
    }
  };

  const failed = (key: string, thrown: unknown, run: ReconcileRun): ReconcileOutcome => {
    const { code, message } = SignetError.from(thrown);
    if (run.signal.aborted) return 'error';
    if (thrown instanceof TerminalError) {
      queue.forget(key);
      run.logger.warn('reconcile failed for good; a change will try again', { code, reason: message });
      return 'terminal_error';
    }
    const retryMs = Math.round(queue.retry(key));
    run.logger.warn('reconcile failed; it is tried again', { code, reason: message, retryMs });
    return 'error';
  };

  return {
    name,
    enqueue: (key, priority) => queue.add(key, priority),
    get length() {
      return queue.length;
    },
    async run(signal) {
      const close = (): void => queue.close();
      if (signal.aborted) close();
      else signal.addEventListener('abort', close, { once: true });
      const worker = async (): Promise<void> => {
        for (let key = await queue.take(); key !== undefined; key = await queue.take())
          await work(key, signal);
      };
      await Promise.all(Array.from({ length: options.concurrency ?? CONCURRENCY }, worker));
    },
  };
}
