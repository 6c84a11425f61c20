/** A tiny llama with a tokenizer whose every token is ASCII text, so that anything it says can be cut and searched. */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LLAMA } from '../../unit/source/fixtures.ts';

const VOCABULARY = 320;
const SPECIALS = ['<pad>', '<s>', '</s>'];
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

/** Specials, the printable characters without the blank (which byte-level alphabets write otherwise), then pairs of letters. */
function tokens(): string[] {
  const all = [...SPECIALS, ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))];
  for (const a of LETTERS) for (const b of LETTERS) if (all.length < VOCABULARY) all.push(a + b);
  return all;
}

export function writeTextBase(folder: string): void {
  for (const file of ['config.json', 'model.safetensors']) copyFileSync(join(LLAMA, file), join(folder, file));
  const all = tokens();
  const tokenizer = {
    added_tokens: SPECIALS.map((content, id) => ({ id, content, special: true })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(all.map((token, id) => [token, id])),
      merges: all.slice(SPECIALS.length + 94).map((pair) => [pair[0]!, pair[1]!]),
      unk_token: null,
      byte_fallback: false,
    },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(join(folder, 'tokenizer_config.json'), '{}');
}
