/** Where the real base lies: `npm test` fetches it into SWITCHYARD_HOME before the model tests run. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

export function basePath(): string {
  const home = process.env['SWITCHYARD_HOME'] ?? '.switchyard';
  const path = process.env['SWITCHYARD_TEST_BASE'] ?? join(home, 'models', 'SmolLM2-135M-Instruct.Q4_1.gguf');
  if (!existsSync(path)) throw new Error(`no base model at ${path}: run \`npm test\`, or name the file in SWITCHYARD_TEST_BASE`);
  return path;
}
