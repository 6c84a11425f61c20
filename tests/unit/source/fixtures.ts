/** Where the checkpoint tests find their files, and what they expect of a refusal. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Failure } from '../../../shared/errors.ts';

export const at = (path: string): string => new URL(`../../fixtures/${path}`, import.meta.url).pathname;

/** A one-file llama of two layers made by llama.cpp's own Python writer; parameters count up from 0 in Hugging Face's order. */
export const TINY_GGUF = at('source/tiny-llama.gguf');
export const GGUF_BLOCKS = at('source/gguf_blocks.json');
export const LLAMA = at('families/llama');
export const LLAMA_UNTIED = at('families/llama-untied-rope3');

export async function temporaryFolder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'switchyard-source-'));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

/** For assert.rejects and assert.throws: a Failure of this kind whose message matches. */
export const failure = (kind: Failure['value']['kind'], message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, `expected a Failure, got ${String(error)}`);
  assert.equal(error.value.kind, kind);
  assert.match(error.message, message);
  return true;
};
