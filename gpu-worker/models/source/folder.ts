/**
 * A Hugging Face model folder as a checkpoint: config.json beside model.safetensors, or beside the
 * shards that model.safetensors.index.json lists.
 */
import { createHash } from 'node:crypto';
import { access, readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { Failure } from '../../../shared/errors.ts';
import type { TokenizerSource } from '../../tokenizer/source.ts';

import { SourceFile } from './file.ts';
import type { Checkpoint } from './interface.ts';
import { checkParameters, parameter } from './parameters.ts';
import { parseHfConfig } from './read-config.ts';
import { openSafetensors, type StoredTensor } from './safetensors-file.ts';
import { readPooling } from './sentence-modules.ts';

const MAX_JSON_BYTES = 64 << 20;
const MAX_SHARDS = 1024;

const JsonObject = z.record(z.string(), z.unknown());
/** Only plain names: a shard outside the folder would not be covered by its revision. */
const ShardName = z.string().regex(/^[^/\\]+\.safetensors$/);
const ShardIndex = z.object({ weight_map: z.record(z.string(), ShardName) });

/** The files of one folder; each one read is remembered for the revision. */
class Folder {
  readonly path: string;
  readonly #hashes = new Map<string, string>();

  constructor(path: string) {
    this.path = path;
  }

  refuse(what: string, options?: ErrorOptions): Failure {
    return new Failure({ kind: 'invalid_request', message: `open base ${this.path}: ${what}` }, options);
  }

  has(name: string): Promise<boolean> {
    return access(join(this.path, name)).then(
      () => true,
      () => false,
    );
  }

  async text(name: string): Promise<string | null> {
    if (!(await this.has(name))) return null;
    const file = await SourceFile.open(join(this.path, name));
    if (file.bytes > MAX_JSON_BYTES) throw this.refuse(`${name}: expected at most ${MAX_JSON_BYTES} bytes, got ${file.bytes}`);
    const bytes = await readFile(file.path);
    this.#hashes.set(name, createHash('sha256').update(bytes).digest('hex'));
    return bytes.toString('utf8');
  }

  async json(name: string): Promise<Record<string, unknown> | null> {
    return this.#parse(name, (value) => JsonObject.parse(value), 'a JSON object');
  }

  /** Null without the file. */
  jsonValue(name: string): Promise<unknown> {
    return this.#parse(name, (value) => value, 'JSON');
  }

  async #parse<T>(name: string, read: (value: unknown) => T, expected: string): Promise<T | null> {
    const text = await this.text(name);
    if (text === null) return null;
    try {
      return read(JSON.parse(text));
    } catch (cause) {
      throw this.refuse(`${name}: expected ${expected}`, { cause });
    }
  }

  async weights(name: string): Promise<Map<string, StoredTensor>> {
    const { file, tensors } = await openSafetensors(join(this.path, name));
    this.#hashes.set(name, await file.sha256());
    return tensors;
  }

  /** SHA-256 over the sorted lines "<sha256>  <name>", as `sha256sum` prints them. */
  revision(): string {
    const lines = [...this.#hashes].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, hash]) => `${hash}  ${name}\n`);
    return createHash('sha256').update(lines.join('')).digest('hex');
  }
}

async function readWeights(folder: Folder): Promise<Map<string, StoredTensor>> {
  const index = await folder.json('model.safetensors.index.json');
  if (index === null) {
    if (await folder.has('model.safetensors')) return folder.weights('model.safetensors');
    throw folder.refuse('expected model.safetensors or model.safetensors.index.json, got neither');
  }
  const parsed = ShardIndex.safeParse(index);
  if (!parsed.success)
    throw folder.refuse('model.safetensors.index.json: expected weight_map from tensor to shard file', { cause: parsed.error });
  const placed = Object.entries(parsed.data.weight_map);
  const shards = [...new Set(placed.map(([, shard]) => shard))].sort();
  if (shards.length > MAX_SHARDS) throw folder.refuse(`expected at most ${MAX_SHARDS} shards, got ${shards.length}`);
  const stored = new Map<string, Map<string, StoredTensor>>();
  for (const shard of shards) stored.set(shard, await folder.weights(shard));
  const tensors = new Map<string, StoredTensor>();
  for (const [name, shard] of placed) {
    const tensor = stored.get(shard)?.get(name);
    if (!tensor) throw folder.refuse(`tensor ${name}: expected in ${shard}, got no such tensor there`);
    tensors.set(name, tensor);
  }
  return tensors;
}

async function readTokenizer(folder: Folder): Promise<TokenizerSource | null> {
  const tokenizerJson = await folder.json('tokenizer.json');
  if (tokenizerJson === null) return null;
  const tokenizerConfig = (await folder.json('tokenizer_config.json')) ?? {};
  // Newer folders keep the template in a file of its own, which then takes precedence.
  const template = await folder.text('chat_template.jinja');
  return { tokenizerJson, tokenizerConfig: template === null ? tokenizerConfig : { ...tokenizerConfig, chat_template: template } };
}

export async function openFolder(path: string): Promise<Checkpoint> {
  const folder = new Folder(path);
  const json = await folder.json('config.json');
  if (json === null) throw folder.refuse('expected config.json, got no such file');
  const pooling = await readPooling(path, (name) => folder.jsonValue(name));
  const whole = pooling === null ? json : { ...json, pooling };
  const config = parseHfConfig(join(path, 'config.json'), whole, await folder.json('generation_config.json'));
  const tensors = await readWeights(folder);
  const shapes = checkParameters(path, config, tensors);
  const tokenizer = await readTokenizer(folder);
  return {
    id: basename(resolve(path)),
    revision: folder.revision(),
    config,
    tokenizer,
    tensorNames: () => [...shapes.keys()],
    shape: (name) => [...parameter(shapes, path, name)],
    tensor(name) {
      parameter(shapes, path, name);
      return tensors.get(name)!.read();
    },
  };
}
