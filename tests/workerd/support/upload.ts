/** Adapter packages as a client uploads them. The bytes are arbitrary: the edge does not look into them. */
import type { Answer, Caller } from './stack.ts';

export type Files = Record<string, string | Uint8Array<ArrayBuffer>>;

export const PACKAGE: Files = { 'adapter_config.json': '{"peft_type":"LORA"}', 'adapter_model.safetensors': 'tensors' };

export function form(fields: Record<string, string>, files: Files, fileField = 'files'): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  for (const [name, content] of Object.entries(files)) data.append(fileField, new Blob([content]), name);
  return data;
}

export function upload(caller: Caller, fields: Record<string, string>, files: Files = PACKAGE, path = '/v1/adapters'): Promise<Answer> {
  return caller.send('POST', path, { body: form(fields, files) });
}
