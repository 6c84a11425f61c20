/** The base that a benchmark runs on, its tokenizer, and prompts of an exact length. */
import { DEFAULT_BASE, resolveBases } from '../../../cli/base.ts';
import { HOME } from '../../../cli/home.ts';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { createTokenizer, type TextTokenizer } from '../../../gpu-worker/tokenizer/tokenizer.ts';
import type { BaseModules } from '../../../shared/adapters/base.ts';
import type { Random } from './random.ts';

export interface BenchBase {
  path: string;
  modules: BaseModules;
  tokenizer: TextTokenizer;
}

export async function openBase(spec: string | undefined): Promise<BenchBase> {
  const [path, ...others] = await resolveBases(spec ?? process.env['SWITCHYARD_BASE'] ?? DEFAULT_BASE, HOME);
  if (!path || others.length > 0) throw new Error('benchmarks run on one base: name one with --base');
  const checkpoint = await openCheckpoint(path);
  if (!checkpoint.tokenizer) throw new Error(`${path} has no tokenizer: benchmarks need text`);
  return { path, modules: baseModules(checkpoint), tokenizer: createTokenizer(checkpoint.tokenizer) };
}

const WORDS =
  'the of and to in is was for on that by this with it from at are as be or an have not which you we they can all more new time when one two my if about who get will would make like him into year your good some could them see other than then now look only come its over think also back after use work first well way even want because any these give day most us'.split(
    ' ',
  );

/** Random words as token ids. */
export const randomPrompt = ({ tokenizer }: BenchBase, length: number, random: Random): number[] =>
  tokenizer.encode(randomText(tokenizer, length, random));

/** A text of random words that is exactly `length` tokens; no two share a beginning, so nothing is served from a cache. */
export function randomText(tokenizer: TextTokenizer, length: number, random: Random): string {
  for (;;) {
    const words = Array.from({ length: 2 * length }, () => WORDS[random.below(WORDS.length)]!);
    const text = tokenizer.decode(tokenizer.encode(words.join(' ')).slice(0, length));
    if (tokenizer.encode(text).length === length) return text;
  }
}
