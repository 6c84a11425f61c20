/** The reference: every linear in float32, the checkpoint's own basis. */
import * as ops from '../graph/ops.ts';
import { servedWeight } from './linear.ts';
import type { Precision } from './precision.ts';

export const fp32 = (): Precision => ({
  name: 'fp32',
  revision: '1',
  rotated: false,
  linear(g, x, spec, weights) {
    const w = g.weight(spec.path, 'f32', [spec.in, spec.out], () => servedWeight(weights.tensor(`${spec.path}.weight`), spec));
    return ops.matmul(g, x, w);
  },
});
