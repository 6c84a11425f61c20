/**
 * JSON Schema → grammar: whatever random tokens a grammar lets through is JSON that fits the schema, as ajv judges it;
 * what ordinary JSON fits the schema gets through; keywords that are not honoured are refused by name.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import fc from 'fast-check';
import { FORMATS } from '../../../../gpu-worker/engine/grammar/schema/formats.ts';
import { SchemaProblem } from '../../../../gpu-worker/engine/grammar/schema/problem.ts';
import { accepts, randomText, toyCompiler } from './toy.ts';

const compiler = await toyCompiler();
const compile = (schema: unknown) => compiler.compile({ kind: 'json_schema', schema: JSON.stringify(schema) });

function judge(schema: unknown): (value: unknown) => string | null {
  const ajv = new Ajv2020({ strict: false });
  addFormats.default(ajv);
  const validate = ajv.compile(schema as object);
  return (value) => (validate(value) ? null : ajv.errorsText(validate.errors));
}

/** Checks some texts of the schema; returns how many there were. */
async function checkTexts(schema: unknown, texts: number): Promise<number> {
  const wrong = judge(schema);
  const grammar = await compile(schema);
  let ended = 0;
  for (let seed = 0; seed < texts; seed++) {
    const text = await randomText(compiler, grammar, seed);
    if (text === null) continue;
    ended++;
    assert.equal(wrong(JSON.parse(text)), null, `${text} for ${JSON.stringify(schema)}`);
  }
  grammar.dispose();
  return ended;
}

const small = fc.integer({ min: 0, max: 6 });
const range = (value: fc.Arbitrary<number>) =>
  fc
    .tuple(fc.option(value, { nil: undefined }), fc.option(value, { nil: undefined }), fc.boolean(), fc.boolean())
    .map(([a, b, openLow, openHigh]) => {
      const [low, high] = a !== undefined && b !== undefined && a > b ? [b, a] : [a, b];
      // Far enough apart that something lies between exclusive bounds.
      const top = high !== undefined && low !== undefined ? high + 2 : high;
      return {
        ...(low === undefined ? {} : { [openLow ? 'exclusiveMinimum' : 'minimum']: low }),
        ...(top === undefined ? {} : { [openHigh ? 'exclusiveMaximum' : 'maximum']: top }),
      };
    });
const decimal = fc.tuple(fc.integer({ min: -99_999, max: 99_999 }), fc.constantFrom(1, 10, 100, 1000)).map(([n, by]) => n / by);
const keys = fc.constantFrom('a', 'key', 'with "quotes"', 'back\\slash', 'ünï', 'a.b', '1', '', 'new\nline', '😀', '{', '::=');

/** ajv compares values by methods that such keys hide. */
const json = fc.jsonValue({ maxDepth: 2 }).filter((value) => !/"(toString|valueOf|__proto__|constructor)"/.test(JSON.stringify(value)));

const leaf = fc.oneof(
  fc.constantFrom<object>({ type: 'null' }, { type: 'boolean' }, { type: 'integer' }, { type: 'number' }, { type: 'string' }, {}),
  range(fc.integer({ min: -3000, max: 3000 })).map((bounds) => ({ type: 'integer', ...bounds })),
  range(decimal).map((bounds) => ({ type: 'number', ...bounds })),
  fc.tuple(small, small).map(([least, more]) => ({ type: 'string', minLength: least, maxLength: least + more })),
  fc.array(json, { minLength: 1, maxLength: 4 }).map((values) => ({ enum: values })),
  json.map((value) => ({ const: value })),
  fc
    .constantFrom('^[a-c]{2,4}$', 'x', '^(foo|ba[rz])+$', '^"[^a-z]*\\\\$', '^\\d{3}-\\w+$', '^.\\s?$|^end$')
    .map((pattern) => ({ type: 'string', pattern })),
  fc.constantFrom('ipv4', 'date', 'time').map((format) => ({ type: 'string', format })),
  fc.constant({ type: ['string', 'null'], maxLength: 2 }),
);
const { schema: anySchema } = fc.letrec<{ schema: object }>((tie) => ({
  schema: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
    fc
      .tuple(tie('schema'), small, small)
      .map(([items, least, more]) => ({ type: 'array', items, minItems: least % 3, maxItems: (least % 3) + more })),
    fc
      .tuple(fc.array(tie('schema'), { minLength: 1, maxLength: 3 }), fc.oneof(fc.constant(false), tie('schema')), small)
      .map(([prefixItems, items, least]) => ({
        type: 'array',
        prefixItems,
        items,
        minItems: Math.min(least, prefixItems.length),
        maxItems: prefixItems.length + 1,
      })),
    fc
      .tuple(fc.uniqueArray(fc.tuple(keys, tie('schema'), fc.boolean()), { maxLength: 4, selector: ([key]) => key }))
      .map(([properties]) => ({
        type: 'object',
        properties: Object.fromEntries(properties.map(([key, value]) => [key, value])),
        required: properties.filter(([, , required]) => required).map(([key]) => key),
        additionalProperties: false,
      })),
    tie('schema').map((additionalProperties) => ({ type: 'object', additionalProperties })),
  ),
}));

describe('texts that random tokens make', () => {
  test('are JSON and fit the schema', { timeout: 120_000 }, async () => {
    let ended = 0;
    await fc.assert(
      fc.asyncProperty(anySchema, async (schema) => {
        ended += await checkTexts(schema, 4);
      }),
      { numRuns: 120 },
    );
    assert.ok(ended > 300, `only ${ended} texts came to an end`);
  });

  test('fit schemas that contain themselves', async () => {
    const tree = {
      $ref: '#/$defs/node',
      $defs: {
        node: {
          type: 'object',
          properties: { value: { type: 'integer' }, children: { type: 'array', items: { $ref: '#/$defs/node' }, maxItems: 2 } },
          required: ['value'],
          additionalProperties: false,
        },
      },
    };
    assert.ok((await checkTexts(tree, 40)) > 20);
  });

  for (const format of FORMATS) {
    test(`are of format ${format}`, async () => {
      assert.ok((await checkTexts({ type: 'string', format }, 40)) > 20);
    });
  }

  test('are any object for json_object', async () => {
    const grammar = await compiler.compile({ kind: 'json_object' });
    let ended = 0;
    for (let seed = 0; seed < 60; seed++) {
      const text = await randomText(compiler, grammar, seed);
      if (text === null) continue;
      ended++;
      const value: unknown = JSON.parse(text);
      assert.ok(typeof value === 'object' && value !== null && !Array.isArray(value), text);
    }
    assert.ok(ended > 20, `${ended}`);
  });
});

describe('what fits gets through', () => {
  const cases: [string, object, unknown[], unknown[]][] = [
    ['strings', { type: 'string' }, ['', 'a "quoted" \\ \n text', 'é😀'], [1, null]],
    ['lengths in characters', { type: 'string', minLength: 2, maxLength: 3 }, ['ab', '😀😀😀', 'a"b'], ['a', 'abcd']],
    ['integers', { type: 'integer', minimum: -12, maximum: 105 }, [-12, -1, 0, 9, 10, 99, 105], [-13, 106, 1.5]],
    ['one bound', { type: 'integer', exclusiveMinimum: 0 }, [1, 10, 123456789], [0, -1]],
    ['numbers', { type: 'number', minimum: 0.5, exclusiveMaximum: 2 }, [0.5, 1, 1.25, 1.999999], [0.49, 2, -1]],
    [
      'optional properties',
      { type: 'object', properties: { a: { type: 'integer' }, b: { type: 'integer' }, c: { type: 'integer' } }, required: ['b'] },
      [{ b: 1 }, { a: 1, b: 2 }, { a: 1, b: 2, c: 3 }, { b: 1, c: 2 }],
      [{}, { a: 1 }, { a: 1, c: 2 }],
    ],
    ['all optional', { properties: { a: true, b: true } }, [{}, { a: 1 }, { b: [] }, { a: null, b: {} }], [{ c: 1 }]],
    ['free maps', { type: 'object', additionalProperties: { type: 'boolean' } }, [{}, { x: true, y: false }], [{ x: 1 }]],
    [
      'tuples',
      { type: 'array', prefixItems: [{ type: 'string' }, { type: 'integer' }], items: false, minItems: 1 },
      [['a'], ['a', 1]],
      [[], ['a', 1, 2]],
    ],
    [
      'lists',
      { type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 3 },
      [
        [1, 2],
        [1, 2, 3],
      ],
      [[1], [1, 2, 3, 4]],
    ],
    ['types', { type: ['string', 'null'] }, ['a', null], [1]],
    ['values', { enum: ['a"b', { x: [1, 2] }, 0.1] }, ['a"b', { x: [1, 2] }, 0.1], ['a']],
    ['patterns found anywhere', { type: 'string', pattern: 'b+' }, ['b', 'abba'], ['aca']],
    ['the only schema of allOf', { allOf: [{ $ref: '#/$defs/x' }], $defs: { x: { type: 'boolean' } } }, [true], [1]],
    ['pointers with escapes', { $ref: '#/$defs/a~1b%20c', $defs: { 'a/b c': { type: 'null' } } }, [null], [1]],
  ];
  for (const [name, schema, fitting, others] of cases) {
    test(name, async () => {
      const grammar = await compile(schema);
      // JSON in the grammar's spacing.
      const text = (value: unknown) =>
        JSON.stringify(value, null, 1)
          .replace(/,\n\s*/g, ', ')
          .replace(/\n\s*/g, '');
      for (const value of fitting) assert.ok(await accepts(compiler, grammar, text(value)), `${text(value)} does not get through`);
      for (const value of others) assert.ok(!(await accepts(compiler, grammar, text(value))), `${text(value)} gets through`);
    });
  }
});

describe('refused by name', () => {
  const refused: [object, RegExp, SchemaProblem['kind']][] = [
    [{ type: 'array', items: {}, uniqueItems: true }, /"uniqueItems"/, 'unsupported'],
    [{ type: 'integer', multipleOf: 5 }, /"multipleOf"/, 'unsupported'],
    [{ oneOf: [{ type: 'null' }] }, /"oneOf"/, 'unsupported'],
    [{ type: 'string', not: { const: 'a' } }, /"not"/, 'unsupported'],
    [
      { type: 'object', properties: { a: { type: 'object', patternProperties: { x: true } } } },
      /\/properties\/a: "patternProperties"/,
      'unsupported',
    ],
    [{ type: 'object', properties: { a: true }, additionalProperties: true }, /additionalProperties/, 'unsupported'],
    [{ type: 'object', properties: {}, required: ['a'] }, /"a" is not among the properties/, 'unsupported'],
    [{ type: 'string', format: 'iri' }, /"iri"/, 'unsupported'],
    [{ type: 'string', pattern: '^a$', maxLength: 3 }, /"pattern" and "maxLength"/, 'unsupported'],
    [{ type: 'string', pattern: '(?=a)b' }, /"\(\?"/, 'unsupported'],
    [{ type: 'string', pattern: '(a)\\1' }, /"\\1"/, 'unsupported'],
    [{ minLength: 3 }, /"minLength" is not honoured without a type/, 'unsupported'],
    [{ type: 'string', minItems: 3 }, /"minItems"/, 'unsupported'],
    [{ enum: ['a'], minLength: 1 }, /"minLength"/, 'unsupported'],
    [{ $ref: 'https://example.com/schema' }, /\$ref/, 'unsupported'],
    [{ $ref: '#/$defs/gone' }, /"\$defs"/, 'invalid'],
    [{ $ref: '#' }, /refers to itself/, 'invalid'],
    [
      { $ref: '#/$defs/a', $defs: { a: { anyOf: [{ $ref: '#/$defs/b' }] }, b: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/a' }] } } },
      /refers to itself/,
      'invalid',
    ],
    [
      { $ref: '#/$defs/a', $defs: { a: { type: 'object', properties: { a: { $ref: '#/$defs/a' } }, required: ['a'] } } },
      /without an end/,
      'invalid',
    ],
    [{ type: 'text' }, /type/, 'invalid'],
    [{ type: 'integer', minimum: 3, maximum: 2 }, /no integer/, 'invalid'],
    [{ type: 'integer', enum: ['a'] }, /not of type integer/, 'invalid'],
    [{ type: 'number', exclusiveMinimum: 1, exclusiveMaximum: 1 }, /no number/, 'invalid'],
    [{ type: 'number', minimum: 1e12 }, /1000000000000/, 'unsupported'],
    [{ enum: [] }, /enum/, 'invalid'],
    [{ type: 'string', x: 1 }, /"x"/, 'unsupported'],
  ];
  for (const [schema, message, kind] of refused) {
    test(JSON.stringify(schema), async () => {
      await assert.rejects(
        compile(schema),
        (error: unknown) => error instanceof SchemaProblem && message.test(error.message) && error.kind === kind,
      );
    });
  }

  test('a schema that nests or grows without measure', async () => {
    let deep: object = { type: 'null' };
    for (let i = 0; i < 50; i++) deep = { type: 'array', items: deep };
    await assert.rejects(compile(deep), SchemaProblem);
    await assert.rejects(compile({ enum: Array.from({ length: 3000 }, (_, i) => i) }), SchemaProblem);
    await assert.rejects(compile({ description: 'x'.repeat(200_000) }), SchemaProblem);
  });

  test('any JSON at all is compiled or refused as a schema problem', async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue({ maxDepth: 4 }), async (schema) => {
        await compile(schema).then(
          (grammar) => grammar.dispose(),
          (error: unknown) => assert.ok(error instanceof SchemaProblem, String(error)),
        );
      }),
      { numRuns: 100 },
    );
  });
});
