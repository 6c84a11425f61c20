/** What a JSON Schema asks for, in the few forms that a grammar can hold a text to exactly. */
import type { Pattern } from './pattern.ts';

export type Shape =
  | { kind: 'any' }
  | { kind: 'null' }
  | { kind: 'boolean' }
  /** Bounds are part of the range; null: none. */
  | { kind: 'integer'; least: number | null; most: number | null }
  | { kind: 'number'; least: Bound | null; most: Bound | null }
  /** Lengths in characters; most null: any. */
  | { kind: 'string'; least: number; most: number | null }
  | { kind: 'pattern'; pattern: Pattern }
  /** Any of these JSON values. */
  | { kind: 'literal'; values: unknown[] }
  /** Item i has the shape first[i], later ones `rest` (null: there are none). */
  | { kind: 'array'; first: Shape[]; rest: Shape | null; least: number; most: number | null }
  /** In this order. `rest`: the shape of values under any key; only without properties of their own. */
  | { kind: 'object'; properties: { name: string; shape: Shape; required: boolean }[]; rest: Shape | null }
  | { kind: 'either'; options: Shape[] }
  /** Key of `SchemaShape.named`. */
  | { kind: 'ref'; to: string };

export interface Bound {
  value: number;
  exclusive: boolean;
}

export interface SchemaShape {
  root: Shape;
  /** Shapes that are referred to, by JSON pointer. */
  named: ReadonlyMap<string, Shape>;
}

/** The shapes that a value of this shape is made of or may be. */
export function partsOf(shape: Shape): Shape[] {
  switch (shape.kind) {
    case 'array':
      return shape.rest ? [...shape.first, shape.rest] : shape.first;
    case 'object':
      return [...shape.properties.map((property) => property.shape), ...(shape.rest ? [shape.rest] : [])];
    case 'either':
      return shape.options;
    case 'any':
    case 'null':
    case 'boolean':
    case 'integer':
    case 'number':
    case 'string':
    case 'pattern':
    case 'literal':
    case 'ref':
      return [];
    default:
      return shape satisfies never;
  }
}
