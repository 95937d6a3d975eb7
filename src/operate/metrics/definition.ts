/** A metric as it is documented and made. Names and units follow Prometheus' conventions: base units, `_total` for counters. */
export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly name: string;
  readonly help: string;
  /** Each label, and what it says. */
  readonly labels: Readonly<Record<string, string>>;
  /** Which programs show it. */
  readonly of: readonly MetricProgram[];
  /** Upper bounds, for a histogram. */
  readonly buckets?: readonly number[];
}

/** A program that shows metrics. */
export type MetricProgram = 'server' | 'agent';
