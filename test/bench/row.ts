/** One line of the table that `npm run bench` prints. */
export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The value as a multiple of what it is compared with, in the same run. */
  readonly ratio?: number;
  readonly target?: string;
  readonly pass?: boolean;
}

/** A row whose value must stay below a limit. */
export function bounded(name: string, value: number, unit: string, below: number): BenchRow {
  return { name, value, unit, target: `< ${below} ${unit}`, pass: value < below };
}
