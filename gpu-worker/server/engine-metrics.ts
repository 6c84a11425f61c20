/** The engine's own counts in Prometheus' terms: read when the page is asked for, never pushed. */
import { Counter, Gauge, type Metric, type Registry } from 'prom-client';
import type { Distribution, EngineStats } from '../../shared/contract/engine.ts';

type Scalar = { [K in keyof EngineStats]: EngineStats[K] extends number ? K : never }[keyof EngineStats];

/** Every number of the engine; counters get the suffix _total. */
const METRICS: Record<Scalar, ['gauge' | 'counter', string]> = {
  active: ['gauge', 'Sequences that run'],
  prefilling: ['gauge', 'Running sequences whose prompt is being computed'],
  queued: ['gauge', 'Sequences that wait to run'],
  queuedBatch: ['gauge', 'Waiting sequences of batch priority'],
  slots: ['gauge', 'Sequences that may run at once'],
  sessions: ['gauge', 'Runtime sessions; constant after start'],
  baseBytes: ['gauge', 'Bytes of base weights; constant after start'],
  kvBytes: ['gauge', 'Bytes of the KV pool; constant after start'],
  kvPages: ['gauge', 'Pages of the KV pool'],
  kvPagesHeld: ['gauge', 'Pages that sequences hold'],
  kvPagesCached: ['gauge', 'Pages kept for the prefix cache alone'],
  residentAdapters: ['gauge', 'Adapters that steps can use'],
  residentAdapterBytes: ['gauge', 'Bytes of adapters that steps can use'],
  steps: ['counter', 'Committed steps'],
  rows: ['counter', 'Rows of all steps: by steps, the mean batch'],
  tokens: ['counter', 'Committed prompt and completion tokens'],
  generatedTokens: ['counter', 'Generated tokens'],
  prefilledTokens: ['counter', 'Computed prompt tokens, again after preemptions included'],
  cachedTokens: ['counter', 'Prompt tokens found in the prefix cache'],
  preemptions: ['counter', 'Sequences that gave way for lack of KV pages'],
  draftedTokens: ['counter', 'Tokens that prompt lookup proposed'],
  acceptedTokens: ['counter', 'Proposed tokens that the model said too'],
};

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Registers them; the answered function gives them the values that the next reading shows. */
export function engineMetrics(register: Registry): (stats: EngineStats) => void {
  const registers = [register];
  const setters = (Object.keys(METRICS) as Scalar[]).map((field) => {
    const [kind, help] = METRICS[field];
    const name = `switchyard_engine_${snakeCase(field)}`;
    if (kind === 'gauge') {
      const gauge = new Gauge({ name, help, registers });
      return (stats: EngineStats) => gauge.set(stats[field]);
    }
    const counter = new Counter({ name: `${name}_total`, help, registers });
    return (stats: EngineStats) => {
      counter.reset();
      counter.inc(stats[field]);
    };
  });
  const steps = new CountedHistogram('switchyard_engine_step_seconds', 'Time of a step');
  register.registerMetric(steps as unknown as Metric);
  return (stats) => {
    for (const set of setters) set(stats);
    steps.value = stats.stepMs;
  };
}

/** A histogram that comes counted, in milliseconds; prom-client's own observes values one by one. */
class CountedHistogram {
  readonly name: string;
  readonly help: string;
  value: Distribution = { bounds: [], counts: [], sum: 0 };

  constructor(name: string, help: string) {
    this.name = name;
    this.help = help;
  }

  async get() {
    const { name, help } = this;
    const { bounds, counts, sum } = this.value;
    let total = 0;
    const buckets = counts.map((count, i) => {
      total += count;
      const bound = bounds[i];
      return { metricName: `${name}_bucket`, labels: { le: bound === undefined ? '+Inf' : bound / 1000 }, value: total };
    });
    const sums = [
      { metricName: `${name}_sum`, labels: {}, value: sum / 1000 },
      { metricName: `${name}_count`, labels: {}, value: total },
    ];
    return { name, help, type: 'histogram', aggregator: 'sum', values: [...buckets, ...sums] };
  }
}
