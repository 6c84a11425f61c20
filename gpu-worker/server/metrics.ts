/**
 * GET /metrics: requests as clients see them, adapter tiers, and the engine's own counts. Adapters are named by digest,
 * the most used ones only; the rest is "other".
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { EmbeddingEvent, Engine, EngineEvent, EngineWork } from '../../shared/contract/engine.ts';
import type { DiskState } from '../adapters/protocol.ts';
import type { AdapterTier, TierObserver } from './adapter-tier.ts';
import { engineMetrics } from './engine-metrics.ts';
import { TopAdapters } from './top-adapters.ts';

/** Adapters that have series of their own. */
const NAMED_ADAPTERS = 50;
const OTHER = 'other';
const LATENCIES = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const GAPS = [0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5];

export interface Measures {
  requests: Counter<'outcome'>;
  firstToken: Histogram;
  tier: TierObserver;
  /** Follows a request's events on their way to its answer. */
  follow<E extends EngineEvent | EmbeddingEvent>(request: EngineWork, onEvents: (events: E[]) => void): (events: E[]) => void;
  render(tier: AdapterTier['state'], disk: DiskState): Promise<{ contentType: string; text: string }>;
}

/** The engine, with its events measured as they pass. */
export function measured(engine: Engine, measures: Measures): Engine {
  return {
    base: engine.base,
    load: (digest, image) => engine.load(digest, image),
    isResident: (digest) => engine.isResident(digest),
    unload: (digest) => engine.unload(digest),
    prepareGrammar: (grammar, tenant) => engine.prepareGrammar(grammar, tenant),
    submit: (request, onEvents) => engine.submit(request, measures.follow(request, onEvents)),
    embed: (request, onEvents) => engine.embed(request, measures.follow(request, onEvents)),
    stats: () => engine.stats(),
    close: () => engine.close(),
  };
}

export function createMeasures(engine: Pick<Engine, 'stats' | 'base'>): Measures {
  const registry = new Registry();
  const registers = [registry];
  registry.setDefaultLabels({ base: engine.base.id, base_revision: engine.base.revision });
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `switchyard_${name}`, help, buckets, registers });
  const gauge = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Gauge({ name: `switchyard_${name}`, help, labelNames, registers });
  const counter = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Counter({ name: `switchyard_${name}`, help, labelNames, registers });

  const requests = counter('requests_total', 'Requests that ended, by outcome', 'outcome');
  const firstToken = histogram('first_token_seconds', 'From the parsed request to its first event of the engine', LATENCIES);
  const queued = histogram('queue_seconds', 'From submission to the engine to the first step', LATENCIES);
  const gaps = histogram('inter_token_seconds', 'Between a sequence’s tokens, as the engine hands them out', GAPS);
  const ofAdapter = {
    requests: counter('adapter_requests_total', 'Ended requests by adapter', 'adapter'),
    tokens: counter('adapter_tokens_total', 'Committed tokens by adapter', 'adapter', 'kind'),
  };
  const asked = counter('adapter_lookups_total', 'Adapters that requests asked for, by whether they were in memory', 'result');
  const loads = new Histogram({
    name: 'switchyard_adapter_load_seconds',
    help: 'Until an adapter is in memory, by the tier that it came from',
    labelNames: ['tier'] as const,
    buckets: LATENCIES,
    registers,
  });
  const evictions = counter('adapter_evictions_total', 'Adapters that left a tier for others', 'tier');
  const adapters = gauge('adapter_tier_adapters', 'Adapters in a tier', 'tier');
  const bytes = gauge('adapter_tier_bytes', 'Bytes of adapters in a tier', 'tier');
  const pinned = gauge('adapter_pinned', 'Pinned adapters in memory');
  const waiting = gauge('adapter_waiting_requests', 'Requests that wait for their adapters');
  const damaged = counter('adapter_damaged_files_total', 'Cached files that were not what their names say');
  const rss = gauge('process_resident_bytes', 'Resident memory of the worker process');
  const setEngine = engineMetrics(registry);

  const top = new TopAdapters(NAMED_ADAPTERS);
  const ended = ({ adapters: refs }: EngineWork, { usage }: Extract<EngineEvent, { type: 'done' }>) => {
    for (const { digest } of refs) {
      const { isNamed, dropped } = top.use(digest, Date.now());
      if (dropped) {
        ofAdapter.requests.remove({ adapter: dropped });
        for (const kind of ['prompt', 'completion']) ofAdapter.tokens.remove({ adapter: dropped, kind });
      }
      const adapter = isNamed ? digest : OTHER;
      ofAdapter.requests.inc({ adapter });
      ofAdapter.tokens.inc({ adapter, kind: 'prompt' }, usage.promptTokens);
      ofAdapter.tokens.inc({ adapter, kind: 'completion' }, usage.completionTokens);
    }
  };

  return {
    requests,
    firstToken,
    tier: {
      asked: (_digest, isHit) => asked.inc({ result: isHit ? 'hit' : 'miss' }),
      loaded: (tier, seconds) => loads.observe({ tier }, seconds),
      evicted: () => evictions.inc({ tier: 'memory' }),
    },
    follow(request, onEvents) {
      /** When each sequence's last tokens came. */
      const last = new Map<number, number>();
      return (events) => {
        const now = performance.now();
        for (const event of events) {
          if (event.type === 'tokens') {
            const before = last.get(event.sequence);
            if (before !== undefined) gaps.observe((now - before) / 1000 / Math.max(1, event.ids.length));
            last.set(event.sequence, now);
          } else if (event.type === 'done') {
            if (event.queuedMs !== undefined) queued.observe(event.queuedMs / 1000);
            ended(request, event);
          }
        }
        onEvents(events);
      };
    },
    async render(tier, disk) {
      setEngine(await engine.stats());
      adapters.set({ tier: 'memory' }, tier.adapters);
      adapters.set({ tier: 'disk' }, disk.images);
      bytes.set({ tier: 'memory' }, tier.bytes);
      bytes.set({ tier: 'disk' }, disk.bytes);
      pinned.set(tier.pinned);
      waiting.set(tier.waiting);
      evictions.remove({ tier: 'disk' });
      evictions.inc({ tier: 'disk' }, disk.evictions);
      damaged.reset();
      damaged.inc(disk.damaged);
      rss.set(process.memoryUsage.rss());
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}
