import type { Metrics } from '../operate/metrics/metrics.js';
import type { Controller, ReconcileOutcome } from '../server/controllers/controller.js';
import type { Watched } from '../lib/watched.js';
import { runWhileLeading, type TaskFailed } from './tasks.js';

/** A controller for one term of leading: it runs once. */
export interface Term {
  readonly controller: Controller;
  /** Called when it has stopped. */
  close(): void | Promise<void>;
}

/** Told of each reconcile that ended; what `ControllerOptions.observe` wants. */
export type ReconcileObserver = (outcome: ReconcileOutcome, seconds: number) => void;

/** Runs controllers while this replica leads, and shows what they do. */
export interface ControllerRunner {
  /** Makes a controller anew each time that this replica begins to lead. Returns what ends it. */
  lead(name: string, create: (observe: ReconcileObserver) => Term): () => Promise<void>;
  /** Counts the reconciles of a controller that runs otherwise. */
  observe(name: string): ReconcileObserver;
  /** Keys that wait, by controller. */
  queues(): Readonly<Record<string, number>>;
}

export function createControllerRunner(
  leading: Watched<boolean>,
  metrics: Metrics,
  onFailed: TaskFailed,
): ControllerRunner {
  const running = new Map<string, Controller>();
  metrics.read('queueLength', () =>
    [...running].map(([controller, { length }]) => ({ labels: { controller }, value: length })),
  );
  const observe =
    (controller: string): ReconcileObserver =>
    (outcome, seconds) => {
      metrics.count('reconciles', { controller, outcome });
      metrics.observe('reconcileSeconds', { controller }, seconds);
    };
  return {
    observe,
    lead: (name, create) =>
      runWhileLeading(
        `controller ${name}`,
        leading,
        async (signal) => {
          const { controller, close } = create(observe(name));
          running.set(name, controller);
          try {
            await controller.run(signal);
          } finally {
            running.delete(name);
            await close();
          }
        },
        onFailed,
      ),
    queues: () => Object.fromEntries([...running].map(([name, { length }]) => [name, length])),
  };
}
