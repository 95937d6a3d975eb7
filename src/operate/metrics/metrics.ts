import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import {
  METRICS,
  type CounterId,
  type GaugeId,
  type HistogramId,
  type LabelsOf,
  type PlainGaugeId,
} from './catalogue.js';
import type { MetricDefinition, MetricProgram } from './definition.js';

/** One value of a gauge. */
export interface Reading<K extends GaugeId> {
  readonly labels: LabelsOf<K>;
  readonly value: number;
}

/** The metrics of one program. What belongs to the other program is ignored, so that both may share code. */
export interface Metrics {
  /** Adds one, or as many as are said. */
  count<K extends CounterId>(id: K, labels: LabelsOf<K>, by?: number): void;
  observe<K extends HistogramId>(id: K, labels: LabelsOf<K>, seconds: number): void;
  /** Says where a gauge is read from when somebody asks; what was shown before and is read no more is gone. */
  read<K extends GaugeId>(id: K, read: () => readonly Reading<K>[]): void;
  /** The same for a gauge of one value; it is not shown while there is none. */
  readOne(id: PlainGaugeId, read: () => number | undefined): void;
  /** In Prometheus' text format. */
  text(): Promise<string>;
  readonly contentType: string;
}

/**
 * How often the delay of the event loop is looked at. At the 10 ms that is usual, this alone wakes a process that has nothing to
 * do a hundred times a second, half of all the CPU time of an idle agent.
 */
const LAG_TIMER_MS = 100;

/** Metrics in a registry of their own; with `process` those of the process as well (`process_*`, `nodejs_*`). */
export function createMetrics(
  program: MetricProgram,
  version: string,
  options: { readonly process?: boolean } = {},
): Metrics {
  const registry = new Registry();
  const counters = new Map<string, Counter>();
  const gauges = new Map<string, Gauge>();
  const histograms = new Map<string, Histogram>();
  const readings = new Map<string, () => readonly { readonly labels: object; readonly value: number }[]>();
  for (const [id, definition] of Object.entries<MetricDefinition>(METRICS)) {
    if (!definition.of.includes(program)) continue;
    const { name, help } = definition;
    const common = { name, help, labelNames: Object.keys(definition.labels), registers: [registry] };
    if (definition.type === 'counter') counters.set(id, new Counter(common));
    else if (definition.type === 'histogram')
      histograms.set(id, new Histogram({ ...common, buckets: [...(definition.buckets ?? [])] }));
    else gauges.set(id, cleared(new Gauge(common)));
  }
  if (options.process === true)
    collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LAG_TIMER_MS });

  const metrics: Metrics = {
    count: (id, labels, by = 1) => counters.get(id)?.inc(labels, by),
    observe: (id, labels, seconds) => histograms.get(id)?.observe(labels, seconds),
    read: (id, read) => readings.set(id, read),
    readOne: (id, read) =>
      readings.set(id, () => {
        const value = read();
        return value === undefined ? [] : [{ labels: {}, value }];
      }),
    async text() {
      for (const [id, read] of readings) {
        const gauge = gauges.get(id);
        if (gauge === undefined) continue;
        cleared(gauge);
        for (const { labels, value } of read()) gauge.set({ ...labels }, value);
      }
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
  metrics.read('buildInfo', () => [{ labels: { version, program }, value: 1 }]);
  return metrics;
}

/** One without labels would show 0, which nobody has read. */
function cleared(gauge: Gauge): Gauge {
  gauge.reset();
  gauge.remove({});
  return gauge;
}
