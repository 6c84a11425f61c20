/** Structural tags: each tag's content follows its own schema, free text stays free, and nothing else is let in. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { SchemaProblem } from '../../../../gpu-worker/engine/grammar/schema/problem.ts';
import { accepts, randomText, toyCompiler } from './toy.ts';

const compiler = await toyCompiler();
const compile = (format: unknown) => compiler.compile({ kind: 'structural_tag', tag: JSON.stringify({ type: 'structural_tag', format }) });

interface Tool {
  name: string;
  value: number;
}
const callTag = ({ name, value }: Tool) => ({
  type: 'tag',
  begin: `<call>{"name": "${name}", "arguments": `,
  content: { type: 'json_schema', json_schema: { type: 'object', properties: { [name]: { const: value } }, required: [name] } },
  end: '}</call>',
});
const callText = ({ name, value }: Tool) => `<call>{"name": "${name}", "arguments": {"${name}": ${value}}}</call>`;

// Few letters, so that names share beginnings and ends.
const tools = fc.uniqueArray(fc.record({ name: fc.stringMatching(/^[abx]{1,3}$/), value: fc.integer({ min: 0, max: 3 }) }), {
  minLength: 1,
  maxLength: 6,
  selector: ({ name }) => name,
});

describe('calls', () => {
  test('one of several, each with its own arguments', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(tools, async (all) => {
        const grammar = await compile({ type: 'or', elements: all.map(callTag) });
        const right = new Set(all.map(callText));
        for (const text of right) assert.ok(await accepts(compiler, grammar, text), text);
        for (const { name } of all) {
          for (let value = 0; value < 4; value++) {
            const text = callText({ name, value });
            assert.equal(await accepts(compiler, grammar, text), right.has(text), text);
          }
        }
        for (let seed = 0; seed < 5; seed++) {
          const text = await randomText(compiler, grammar, seed);
          assert.ok(text !== null && right.has(text), String(text));
        }
        grammar.dispose();
      }),
      { numRuns: 60 },
    );
  });

  test('inside free text, which cannot begin a call that it does not end', async () => {
    const tool = { name: 'a', value: 1 };
    const grammar = await compile({ type: 'triggered_tags', triggers: ['<call>'], tags: [callTag(tool)] });
    const call = callText(tool);
    for (const text of ['', 'no call <cal {"', `before ${call}`, `${call} between ${call} after`])
      assert.ok(await accepts(compiler, grammar, text), text);
    for (const text of ['<call>', '<call>{"name": "b"', `${call}<call>x`]) assert.ok(!(await accepts(compiler, grammar, text)), text);
    grammar.dispose();
  });

  test('in a list with separators', async () => {
    const tags = [callTag({ name: 'a', value: 1 }), callTag({ name: 'b', value: 2 })];
    const grammar = await compile({ type: 'tags_with_separator', tags, separator: '\n', at_least_one: true });
    const [a, b] = [callText({ name: 'a', value: 1 }), callText({ name: 'b', value: 2 })];
    for (const text of [a, `${a}\n${b}`, `${b}\n${b}\n${a}`]) assert.ok(await accepts(compiler, grammar, text), text);
    for (const text of ['', `${a}${b}`, `${a}\n`]) assert.ok(!(await accepts(compiler, grammar, text)), text);
    grammar.dispose();
  });
});

describe('refused', () => {
  const refused: [string, unknown][] = [
    ['a grammar of the client', { type: 'grammar', grammar: 'root ::= "a"' }],
    ['an unknown format', { type: 'qwen_xml_parameter', json_schema: {} }],
    ['an unknown field', { type: 'any_text', max_tokens: 3 }],
    ['a schema that is not honoured', { type: 'tag', begin: 'a', content: { type: 'json_schema', json_schema: { oneOf: [] } }, end: '' }],
    ['tags without measure', Array.from({ length: 20 }).reduce((inner) => ({ type: 'or', elements: [inner] }), { type: 'any_text' })],
  ];
  for (const [name, format] of refused) {
    test(name, async () => {
      await assert.rejects(compile(format), SchemaProblem);
    });
  }
});
