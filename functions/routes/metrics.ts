/**
 * GET /metrics: one page for all live workers in Prometheus' text format (version 0.0.4). Each worker's own
 * page is read, its samples get the label `worker`, and the pages become one, family by family, as the
 * format demands: a family has one HELP and TYPE, and its lines stand together.
 * https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { AppEnv, Env } from '../env.ts';
import { adminKey } from '../middleware/authenticate.ts';
import { callWorker } from '../upstream/call.ts';
import type { LiveWorker } from '../upstream/placement.ts';
import { liveWorkers } from '../upstream/snapshot.ts';
import { describe } from './describe.ts';

/** Prometheus itself waits 10 s by default: one worker that hangs must not cost it the others. */
const TIMEOUT_MS = 2_000;
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

interface Family {
  help: string;
  type: string;
  samples: string[];
}
type Page = Map<string, Family>;

const METADATA = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) ?(.*)$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? +(\S+(?: +-?\d+)?)$/;

export const metrics = new OpenAPIHono<AppEnv>();

describe(metrics, {
  method: 'get',
  path: '/metrics',
  summary: 'Metrics of all live workers, in the text format of Prometheus',
  answer: z.string(),
  answerType: 'text/plain',
});
metrics.get('/metrics', adminKey(), async (c) => c.body(await render(c.env), 200, { 'content-type': CONTENT_TYPE }));

async function render(env: Env): Promise<string> {
  const workers = await liveWorkers(env, { fresh: true });
  const pages = await Promise.allSettled(workers.map((w) => read(env, w)));
  const merged: Page = new Map();
  let unreachable = 0;
  for (const [i, page] of pages.entries()) {
    try {
      if (page.status === 'rejected') throw page.reason;
      merge(merged, page.value);
    } catch (error) {
      unreachable++;
      console.error(JSON.stringify({ level: 'error', worker: workers[i]!.worker, error: `read metrics: ${String(error)}` }));
    }
  }
  const gauge = (help: string, name: string, value: number): [string, Family] => [
    name,
    { help, type: 'gauge', samples: [`${name} ${value}`] },
  ];
  const own = [
    gauge('Workers whose last heartbeat is recent', 'switchyard_workers_live', workers.length),
    gauge('Live workers whose metrics could not be read; they are missing here', 'switchyard_workers_unreachable', unreachable),
  ];
  return [...own, ...merged].map(write).join('');
}

async function read(env: Env, worker: LiveWorker): Promise<Page> {
  const response = await callWorker(env, worker, { method: 'GET', path: '/metrics', signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return parse(await response.text(), worker.worker);
}

/** A page by families, each sample labelled with its worker. Throws on a line that is not of the format. */
function parse(text: string, worker: string): Page {
  const label = `worker="${worker.replace(/[\\"\n]/g, (char) => (char === '\n' ? '\\n' : `\\${char}`))}"`;
  const page: Page = new Map();
  const familyOf = (name: string): Family => {
    const family = page.get(name) ?? { help: '', type: 'untyped', samples: [] };
    page.set(name, family);
    return family;
  };
  let current = '';
  for (const line of text.split('\n')) {
    const metadata = METADATA.exec(line);
    if (metadata) {
      current = metadata[2]!;
      familyOf(current)[metadata[1] === 'HELP' ? 'help' : 'type'] = metadata[3]!;
    } else if (line !== '' && !line.startsWith('#')) {
      const [, name, labels, value] = SAMPLE.exec(line) ?? [];
      if (name === undefined) throw new Error(`expected a sample, got ${JSON.stringify(line.slice(0, 100))}`);
      if (!isOf(current, name)) current = name;
      familyOf(current).samples.push(`${name}{${labels ? `${label},${labels}` : label}} ${value}`);
    }
  }
  return page;
}

/** Samples of histograms and summaries have longer names than their family. */
function isOf(family: string, name: string): boolean {
  return name.startsWith(family) && ['', '_bucket', '_sum', '_count'].includes(name.slice(family.length));
}

/** Adds a worker's page, or nothing of it: throws when a family is of another type than at the workers before. */
function merge(merged: Page, page: Page): void {
  for (const [name, { type }] of page) {
    const known = merged.get(name)?.type ?? type;
    if (known !== type) throw new Error(`${name}: expected the type ${known} as at other workers, got ${type}`);
  }
  for (const [name, family] of page) {
    const known = merged.get(name);
    if (known) known.samples.push(...family.samples);
    else merged.set(name, family);
  }
}

function write([name, { help, type, samples }]: [string, Family]): string {
  return `${help === '' ? '' : `# HELP ${name} ${help}\n`}# TYPE ${name} ${type}\n${samples.map((sample) => `${sample}\n`).join('')}`;
}
