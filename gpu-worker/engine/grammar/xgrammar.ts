/**
 * Loads @mlc-ai/web-xgrammar. The package calls itself a module but holds a UMD script, which Node cannot import; it is
 * run here as the CommonJS script that it is. Its console is replaced, since that is where the reason for a refused
 * grammar goes before the module aborts.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type * as Package from '@mlc-ai/web-xgrammar';

export interface XGrammar {
  package: typeof Package;
  /** What the library printed since the last call. */
  takeNotes(): string;
}

export function loadXGrammar(): XGrammar {
  const file = fileURLToPath(import.meta.resolve('@mlc-ai/web-xgrammar'));
  const script = new Function('exports', 'module', 'require', '__filename', 'console', readFileSync(file, 'utf8'));
  let notes: string[] = [];
  const note = (text: unknown) => void notes.push(String(text));
  const module = { exports: {} };
  script(module.exports, module, createRequire(file), file, { log: note, error: note, warn: note });
  return {
    package: module.exports as typeof Package,
    takeNotes() {
      const taken = notes.join('\n');
      notes = [];
      return taken;
    },
  };
}
