/** What a grammar cannot be made of: references that lead in a circle without a text between, and shapes that no text can complete. */
import { SchemaProblem } from './problem.ts';
import { partsOf, type SchemaShape, type Shape } from './shape.ts';

export function checkShapes({ root, named }: SchemaShape): void {
  for (const pointer of named.keys()) checkProgress(pointer, named);
  const complete = completable(named);
  const all = [['', root] as const, ...named];
  for (const [at, shape] of all)
    if (!everyPart(shape, (part) => canComplete(part, complete)))
      throw new SchemaProblem('invalid', at, 'contains itself without an end: no text can complete it');
}

/** Follows references and alternatives, which add no text of their own. */
function checkProgress(start: string, named: ReadonlyMap<string, Shape>): void {
  const seen = new Set<string>();
  const visit = (shape: Shape): void => {
    if (shape.kind === 'either') shape.options.forEach(visit);
    if (shape.kind !== 'ref') return;
    if (shape.to === start) throw new SchemaProblem('invalid', start, 'refers to itself and nothing else');
    if (seen.has(shape.to)) return;
    seen.add(shape.to);
    visit(named.get(shape.to)!);
  };
  visit(named.get(start)!);
}

/** The named shapes that some finite text completes: grown from those that need no others. */
function completable(named: ReadonlyMap<string, Shape>): ReadonlySet<string> {
  const complete = new Set<string>();
  for (let before = -1; before < complete.size; ) {
    before = complete.size;
    for (const [pointer, shape] of named) if (canComplete(shape, complete)) complete.add(pointer);
  }
  return complete;
}

function canComplete(shape: Shape, complete: ReadonlySet<string>): boolean {
  switch (shape.kind) {
    case 'ref':
      return complete.has(shape.to);
    case 'either':
      return shape.options.some((option) => canComplete(option, complete));
    case 'object':
      return shape.properties.every((property) => !property.required || canComplete(property.shape, complete));
    case 'array': {
      const needed = [...shape.first.slice(0, shape.least), ...(shape.rest && shape.least > shape.first.length ? [shape.rest] : [])];
      return needed.every((item) => canComplete(item, complete));
    }
    case 'any':
    case 'null':
    case 'boolean':
    case 'integer':
    case 'number':
    case 'string':
    case 'pattern':
    case 'literal':
      return true;
    default:
      return shape satisfies never;
  }
}

function everyPart(shape: Shape, holds: (part: Shape) => boolean): boolean {
  return holds(shape) && partsOf(shape).every((part) => everyPart(part, holds));
}
