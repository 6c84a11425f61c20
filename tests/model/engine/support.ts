/** SmolLM2 and the four adapters trained on it, as the golden files describe them. */
import { readFileSync } from 'node:fs';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import { readSafetensors } from '../../../shared/adapters/safetensors.ts';
import type { Engine } from '../../../shared/contract/engine.ts';
import { imagesFor } from '../../support/images.ts';
import { basePath } from '../source/base-path.ts';

const file = (path: string): Uint8Array => readFileSync(new URL(`../../fixtures/smollm2/${path}`, import.meta.url));
export const golden = <T>(path: string): T => JSON.parse(Buffer.from(file(path)).toString('utf8')) as T;
export const bytesOf = (path: string): Uint8Array => new Uint8Array(file(path));

/** The twenty most likely next tokens and their logits, best first. */
export interface NextTokens {
  ids: number[];
  logits: number[];
}

export interface GoldenPrompt {
  ids: number[];
  next: NextTokens;
  greedy: number[];
  greedy_top2_gaps: number[];
}

interface Answer {
  greedy: number[];
  top2_gaps: number[];
  next: NextTokens;
}

export interface ValidationOutput {
  ids: number[];
  adapter: Answer;
  base: Answer;
}

export const ADAPTERS = ['tickets', 'sentiment', 'pirate', 'commands'] as const;
export type AdapterName = (typeof ADAPTERS)[number];

const modules = baseModules(await openCheckpoint(basePath()));

/** Seals a trained adapter, its alpha multiplied, and makes it resident; returns its digest. */
export async function loadAdapter(engine: Engine, name: AdapterName, alphaFactor = 1): Promise<string> {
  const config = golden<{ lora_alpha: number }>(`adapters/${name}/adapter_config.json`);
  const scaled = { ...config, lora_alpha: config.lora_alpha * alphaFactor };
  const sealed = sealPackage(
    [
      { name: 'adapter_config.json', bytes: new TextEncoder().encode(JSON.stringify(scaled)) },
      { name: 'adapter_model.safetensors', bytes: bytesOf(`adapters/${name}/adapter_model.safetensors`) },
    ],
    modules,
  );
  const imageOf = await imagesFor(basePath(), engine.base.precision);
  await engine.load(sealed.digest, await imageOf(sealed.digest, sealed.bytes));
  return sealed.digest;
}

/** The text whose perplexity is known: its ids and log p(ids[t + 1] | ids[..t]). */
export function perplexityText(): { ids: number[]; logprobs: Float32Array } {
  const { tensors } = readSafetensors(bytesOf('perplexity.safetensors'), 'perplexity.safetensors');
  const data = (name: string) => tensors.get(name)!.data.slice().buffer;
  return { ids: Array.from(new BigInt64Array(data('ids')), Number), logprobs: new Float32Array(data('logprobs')) };
}
