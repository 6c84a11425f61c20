/** In 8 bits a sequence's logits are the same bits however it was cut into runs and whatever ran beside it, with whichever adapters, in every family. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RowAdapter } from '../../../gpu-worker/engine/model.ts';
import { noise } from '../engine/support.ts';
import { adapterOnAll, FAMILIES, joined, openModel } from './support.ts';

const PROMPT = [93, 50, 150, 199, 262, 200, 63, 119, 197, 215, 115, 106, 159, 73, 25, 175, 161];
const OTHERS = [1, 2, 3].map((i) => Array.from(noise(20, i), (x) => Math.floor(160 * (x + 1))));
const CUTS = [[17], [1, 16], [5, 1, 1, 10], PROMPT.map(() => 1)];

for (const family of readdirSync(FAMILIES)) {
  test(family, async () => {
    using model = await openModel(join(FAMILIES, family), 'int8', 1 + OTHERS.length);
    const adapters: RowAdapter[] = [];
    for (const seed of [1, 2]) {
      const { digest, sealed } = adapterOnAll(model.checkpoint, seed);
      adapters.push(await model.adapter(digest, sealed));
    }
    /** Sequence 0 has the first adapter, and so has one of the others; one has another, one has none. */
    const row = (tokens: readonly number[], past: number, sequence: number) => ({
      tokens,
      past,
      pages: model.pages(sequence),
      adapters: [[adapters[0]!], [adapters[1]!], [], [adapters[0]!]][sequence]!,
      wanted: tokens.length,
    });

    /** Logits of the prompt, run in pieces; beside piece i run pieces of other sequences, the first of them before it. */
    function runCut(sizes: readonly number[], company: boolean): Float32Array {
      let past = 0;
      const pieces = sizes.map((size, i) => {
        const others = company ? OTHERS.map((tokens, o) => row(tokens.slice(i, i + 1 + o), i, o + 1)) : [];
        const own = row(PROMPT.slice(past, past + size), past, 0);
        const skipped = others[0]?.wanted ?? 0;
        past += size;
        return joined(model.executor.run([...others.slice(0, 1), own, ...others.slice(1)]).slice(skipped, skipped + size));
      });
      return Float32Array.from(pieces.flatMap((piece) => [...piece]));
    }

    const expected = runCut([PROMPT.length], false);
    for (const cut of CUTS)
      for (const company of [false, true]) assert.deepEqual(runCut(cut, company), expected, `cut ${cut}, company ${company}`);
  });
}
