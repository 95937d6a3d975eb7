/** One thing that must be so. */
export interface HealthCheck {
  /** e.g. `store`. */
  readonly name: string;
  /** Why it is not so, for people; undefined while all is well. */
  readonly problem: () => string | undefined;
}

/** How one check came out. */
export interface CheckResult {
  readonly name: string;
  readonly problem: string | undefined;
}

/** What a program says of itself. Checks may be added while it runs. */
export interface Health {
  /** Fails when only a restart can help. */
  readonly live: HealthChecks;
  /** Fails while this program should not be asked for anything. */
  readonly ready: HealthChecks;
}

/** A list of checks. */
export class HealthChecks {
  readonly #checks: HealthCheck[] = [];

  /** Returns what takes it away again. */
  add(name: string, problem: () => string | undefined): () => void {
    const check = { name, problem };
    this.#checks.push(check);
    return () => void this.#checks.splice(this.#checks.indexOf(check), 1);
  }

  results(): readonly CheckResult[] {
    return this.#checks.map(({ name, problem }) => ({ name, problem: problem() }));
  }
}

/** Health without a check. */
export function createHealth(): Health {
  return { live: new HealthChecks(), ready: new HealthChecks() };
}

/** As the API server of Kubernetes writes it: one line each, and what it comes to. */
export function healthText(name: string, results: readonly CheckResult[]): string {
  const lines = results.map(({ name: check, problem }) =>
    problem === undefined ? `[+]${check} ok` : `[-]${check} failed: ${problem}`,
  );
  const failed = results.some(({ problem }) => problem !== undefined);
  return [...lines, `${name} check ${failed ? 'failed' : 'passed'}`, ''].join('\n');
}
