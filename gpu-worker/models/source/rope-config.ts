/** Rotary parameters of a config.json, in the new form (`rope_parameters`) or the old (`rope_theta` beside `rope_scaling`). */
import { z } from 'zod';
import { Failure } from '../../../shared/errors.ts';

const record = z.record(z.string(), z.unknown());

const KINDS = ['default', 'linear', 'dynamic', 'llama3', 'yarn', 'longrope'] as const;
type Kind = (typeof KINDS)[number];

/** Values are checked by the family's schema; what cannot be computed exactly is refused here, by name. */
export type RopeCandidate = Record<'rope_theta' | 'rope_scaling', unknown>;

/** `given` is one set of parameters; `json` the config around it. */
export function readRope(source: string, given: unknown, json: Record<string, unknown>): RopeCandidate {
  const parsed = record.safeParse(given);
  if (!parsed.success) {
    throw new Failure({ kind: 'invalid_request', message: `${source}: rope_parameters: expected an object, got ${JSON.stringify(given)}` });
  }
  // `type` is the name that configs before transformers 4.43 use; some carry both.
  const { rope_theta, rope_type, type, partial_rotary_factor: _, ...rest } = parsed.data;
  const named = rope_type ?? type ?? 'default';
  const kind = KINDS.find((known) => known === named);
  if (!kind) {
    const message = `${source}: rope_type: expected one of ${KINDS.join(', ')}, got ${JSON.stringify(named)}`;
    throw new Failure({ kind: 'unsupported', message });
  }
  return { rope_theta: rope_theta ?? json['rope_theta'], rope_scaling: scalingOf(kind, rest, json) };
}

/** The parameters of a model with one kind for all layers. */
export const ropeParameters = (json: Record<string, unknown>): unknown => json['rope_parameters'] ?? json['rope_scaling'] ?? {};

function scalingOf(kind: Kind, rest: Record<string, unknown>, json: Record<string, unknown>): unknown {
  switch (kind) {
    case 'default':
      return null;
    case 'linear':
    case 'dynamic':
    case 'llama3':
      return { rope_type: kind, ...rest };
    case 'yarn': {
      const { mscale, mscale_all_dim, attention_factor, ...others } = rest;
      const factor = Number(rest['factor']);
      const magnitude = (times: number) => (factor <= 1 ? 1 : 0.1 * times * Math.log(factor) + 1);
      const derived = mscale && mscale_all_dim ? magnitude(Number(mscale)) / magnitude(Number(mscale_all_dim)) : magnitude(1);
      return {
        rope_type: kind,
        original_max_position_embeddings: json['max_position_embeddings'],
        truncate: true,
        ...others,
        beta_fast: rest['beta_fast'] ?? 32,
        beta_slow: rest['beta_slow'] ?? 1,
        attention_factor: attention_factor ?? derived,
      };
    }
    case 'longrope': {
      const { original, trained } = longRopeContext(rest, json);
      const { short_factor, long_factor: _, factor: given, original_max_position_embeddings: __, attention_factor, ...others } = rest;
      const factor = trained === original && typeof given === 'number' ? given : trained / original;
      const derived = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
      return { rope_type: kind, short_factor, attention_factor: attention_factor ?? derived, ...others };
    }
    default:
      return kind satisfies never;
  }
}

/** Positions of the original training and after the stretching. */
function longRopeContext(rope: Record<string, unknown>, json: Record<string, unknown>): { original: number; trained: number } {
  const trained = Number(json['max_position_embeddings']);
  const original = Number(json['original_max_position_embeddings'] ?? rope['original_max_position_embeddings'] ?? trained);
  return { original, trained };
}

/**
 * Positions that a model can be served with. The reference turns every position of a sequence by other angles once
 * it outgrows the original context; keys that are already in a cache cannot follow, so longrope ends there.
 */
export function servedPositions(json: Record<string, unknown>): unknown {
  const rope = record.safeParse(ropeParameters(json)).data ?? {};
  if ((rope['rope_type'] ?? rope['type']) !== 'longrope') return json['max_position_embeddings'];
  return Math.min(longRopeContext(rope, json).original, Number(json['max_position_embeddings']));
}
