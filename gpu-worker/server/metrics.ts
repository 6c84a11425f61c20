/** GET /metrics: the engine's own counts, read when asked for, and what only the server sees. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Engine, EngineStats } from '../../shared/contract/engine.ts';

export interface Measures {
  requests: Counter<'outcome'>;
  firstToken: Histogram;
  render(): Promise<{ contentType: string; text: string }>;
}

const ENGINE_GAUGES: { [K in keyof EngineStats]: string } = {
  active: 'Sequences that hold a slot',
  queued: 'Requests that wait for a slot',
  slots: 'Sequences that can run at once',
  sessions: 'Runtime sessions; constant after start',
  baseBytes: 'Bytes of base weights; constant after start',
  kvBytes: 'Bytes of KV cache; constant after start',
  adapterSlotBytes: 'Bytes of adapter slots on the device; constant after start',
  residentAdapters: 'Adapters in host memory',
  residentAdapterBytes: 'Bytes of adapters in host memory',
  steps: 'Steps that the engine committed',
  tokens: 'Tokens that the engine generated',
};

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

export function createMeasures(engine: Pick<Engine, 'stats' | 'base'>): Measures {
  const registry = new Registry();
  registry.setDefaultLabels({ base: engine.base.id, base_revision: engine.base.revision });
  const registers = [registry];
  const requests = new Counter({
    name: 'switchyard_requests_total',
    help: 'Requests that ended, by outcome',
    labelNames: ['outcome'] as const,
    registers,
  });
  const firstToken = new Histogram({
    name: 'switchyard_first_token_seconds',
    help: 'From the parsed request to its first event of the engine',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  });
  const gauges = (Object.keys(ENGINE_GAUGES) as (keyof EngineStats)[]).map((field) => {
    return { field, gauge: new Gauge({ name: `switchyard_engine_${snakeCase(field)}`, help: ENGINE_GAUGES[field], registers }) };
  });
  const rss = new Gauge({ name: 'switchyard_process_resident_bytes', help: 'Resident memory of the worker process', registers });
  return {
    requests,
    firstToken,
    async render() {
      const stats = await engine.stats();
      for (const { field, gauge } of gauges) gauge.set(stats[field]);
      rss.set(process.memoryUsage.rss());
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}
