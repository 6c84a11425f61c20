/**
 * What sentence-transformers keeps beside a model: modules.json lists what follows the network, and the pooling's config says
 * how the vectors of a text's tokens become one. Embeddings are normalised whether or not it is listed there, as at OpenAI.
 */
import { z } from 'zod';
import { Failure } from '../../../shared/errors.ts';
import type { Pooling } from '../family.ts';

/** Only a plain name: the file must lie in the folder. */
const Modules = z.array(z.looseObject({ type: z.string(), path: z.string().regex(/^[\w-]*$/) }));

const MODES: Record<string, Pooling> = { pooling_mode_mean_tokens: 'mean', pooling_mode_cls_token: 'cls' };
const SERVED = new Set(['Transformer', 'Pooling', 'Normalize']);

/** Null: the folder says nothing about it. `read` gives a file's JSON, null if there is none. Throws Failure. */
export async function readPooling(folder: string, read: (name: string) => Promise<unknown>): Promise<Pooling | null> {
  const listed = await read('modules.json');
  if (listed === null) return null;
  const refuse = (what: string) => new Failure({ kind: 'unsupported', message: `open base ${folder}: ${what}` });
  const modules = Modules.safeParse(listed);
  if (!modules.success) throw refuse('modules.json: expected a list of modules with type and path');
  const kinds = modules.data.map(({ type }) => type.slice(type.lastIndexOf('.') + 1));
  const foreign = kinds.find((kind) => !SERVED.has(kind));
  if (foreign !== undefined) throw refuse(`modules.json: expected ${[...SERVED].join(', ')}, got ${JSON.stringify(foreign.slice(0, 60))}`);
  const pooling = modules.data[kinds.indexOf('Pooling')];
  if (!pooling) throw refuse('modules.json: expected a Pooling module, got none');
  const file = `${pooling.path}/config.json`;
  const config = (await read(file)) as Record<string, unknown> | null;
  const modes = Object.keys(config ?? {}).filter((name) => name.startsWith('pooling_mode') && config![name] === true);
  const mode = modes.length === 1 ? MODES[modes[0]!] : undefined;
  if (!mode) throw refuse(`${file}: expected one of ${Object.keys(MODES).join(', ')} alone, got ${JSON.stringify(modes)}`);
  return mode;
}
