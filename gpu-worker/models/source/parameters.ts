/**
 * The parameters that a config implies, under Hugging Face's names, and the check of what a
 * container holds against them. Both loaders use it, so a base that opens is complete.
 */
import { Failure } from '../../../shared/errors.ts';
import { familyOf } from '../registry.ts';
import type { ModelConfig } from './config.ts';

/** Throws unless `found` holds exactly the parameters of `config`, each in its shape. */
export function checkParameters(
  source: string,
  config: ModelConfig,
  found: ReadonlyMap<string, { shape: number[] }>,
): Map<string, number[]> {
  const family = familyOf(config);
  const expected = family.parameters(config);
  const refuse = (message: string) => new Failure({ kind: 'invalid_request', message: `open base ${source}: ${message}` });
  for (const [name, shape] of expected) {
    const got = found.get(name)?.shape;
    if (!got) throw refuse(`tensor ${name}: expected shape [${shape.join(', ')}], got no such tensor`);
    if (got.length !== shape.length || got.some((n, i) => n !== shape[i])) {
      throw refuse(`tensor ${name}: expected shape [${shape.join(', ')}], got [${got.join(', ')}]`);
    }
  }
  for (const name of found.keys()) {
    if (!expected.has(name) && !family.isLeftOut(name, config))
      throw refuse(`tensor ${name}: not a parameter of this ${config.model_type}`);
  }
  return expected;
}

/** Shape of a parameter that `checkParameters` found. */
export function parameter(shapes: ReadonlyMap<string, number[]>, source: string, name: string): number[] {
  const shape = shapes.get(name);
  if (!shape) throw new Failure({ kind: 'internal', message: `read base ${source}: no tensor ${name}` });
  return shape;
}
