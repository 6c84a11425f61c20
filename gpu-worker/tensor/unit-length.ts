/** Vectors of length 1. */

/** Keeps a vector of zeros what it is. */
const LEAST_LENGTH = 1e-12;

/** The vector's direction. */
export function scaledToOne(values: ArrayLike<number>): Float32Array<ArrayBuffer> {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i]! ** 2;
  const length = Math.max(Math.sqrt(squares), LEAST_LENGTH);
  return Float32Array.from({ length: values.length }, (_, i) => values[i]! / length);
}
