/** Batches through the official client: a file goes in, files come out. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { toFile } from 'openai';
import type { BatchAnswer } from '../../../shared/contract/batches.ts';

export interface Line {
  custom_id: string;
  method: string;
  url: string;
  body: object;
}

export const line = (custom_id: string, body: object, url = '/v1/chat/completions'): Line => ({ custom_id, method: 'POST', url, body });

export class BatchClient {
  readonly openai: OpenAI;

  constructor(url: string, key: string) {
    this.openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
  }

  async create(input: readonly Line[] | string, endpoint = '/v1/chat/completions', more: object = {}): Promise<OpenAI.Batch> {
    const text = typeof input === 'string' ? input : input.map((l) => `${JSON.stringify(l)}\n`).join('');
    const { id } = await this.openai.files.create({ purpose: 'batch', file: await toFile(Buffer.from(text), 'input.jsonl') });
    const fields = { input_file_id: id, endpoint, completion_window: '24h', ...more } as OpenAI.BatchCreateParams;
    return await this.openai.batches.create(fields);
  }

  /** Waits until the batch has one of `statuses`. */
  async until(id: string, ...statuses: OpenAI.Batch['status'][]): Promise<OpenAI.Batch> {
    for (let i = 0; i < 400; i++) {
      const batch = await this.openai.batches.retrieve(id);
      if (statuses.includes(batch.status)) return batch;
      await sleep(50);
    }
    return assert.fail(`the batch is not ${statuses.join(' or ')} within 20 s`);
  }

  /** Lines of a file that a batch has written, by custom_id. */
  async answers(file: string | null | undefined): Promise<Map<string, BatchAnswer>> {
    if (!file) return new Map();
    const text = await (await this.openai.files.content(file)).text();
    const list = text.split('\n').filter((l) => l !== '');
    const answers = new Map(list.map((l) => JSON.parse(l) as BatchAnswer).map((a) => [a.custom_id, a]));
    assert.equal(answers.size, list.length, 'one line for each custom_id');
    return answers;
  }
}
