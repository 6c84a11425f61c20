/** What models write, parted into content and calls: the same however the text was cut, and never more than is certain. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ToolForm } from '../../../../gpu-worker/server/tools/form.ts';
import { granite } from '../../../../gpu-worker/server/tools/granite.ts';
import { hermes } from '../../../../gpu-worker/server/tools/hermes.ts';
import { llama } from '../../../../gpu-worker/server/tools/llama.ts';
import { mistral } from '../../../../gpu-worker/server/tools/mistral.ts';
import { ToolReader } from '../../../../gpu-worker/server/tools/reader.ts';

interface Read {
  content: string;
  calls: { name: string; arguments: string }[];
}

function read(form: ToolForm, pieces: string[], opened = false): Read {
  const reader = new ToolReader(form, opened);
  const seen: Read = { content: '', calls: [] };
  const ids = new Set<string>();
  for (const delta of [...pieces.map((piece) => reader.push(piece)), reader.finish()]) {
    seen.content += delta.content;
    for (const { index, begins, arguments: text } of delta.calls) {
      if (begins) {
        assert.equal(index, seen.calls.length);
        assert.match(begins.id, /^call_[0-9a-z]{24}$/);
        ids.add(begins.id);
        seen.calls.push({ name: begins.name, arguments: '' });
      }
      seen.calls[index]!.arguments += text;
    }
  }
  assert.equal(ids.size, seen.calls.length);
  assert.equal(reader.called, seen.calls.length > 0);
  return seen;
}

const call = (name: string, args: unknown) => `{"name": ${JSON.stringify(name)}, "arguments": ${JSON.stringify(args)}}`;

const CASES: [string, ToolForm, string, Read][] = [
  ['text', hermes, 'Just <b>text</b>, a < b. \n', { content: 'Just <b>text</b>, a < b. \n', calls: [] }],
  ['nothing', hermes, '', { content: '', calls: [] }],
  [
    'text and a call',
    hermes,
    `Let me see.\n<tool_call>\n${call('f', { a: [{ b: '}' }] })}\n</tool_call>\n`,
    { content: 'Let me see.', calls: [{ name: 'f', arguments: '{"a":[{"b":"}"}]}' }] },
  ],
  [
    'a second call that broke off in its opening',
    hermes,
    `<tool_call>\n${call('f', {})}\n</tool_call>\n<tool_`,
    { content: '', calls: [{ name: 'f', arguments: '{}' }] },
  ],
  [
    'two calls and text after',
    hermes,
    `<tool_call>\n${call('f', {})}\n</tool_call>\n<tool_call>${call('g', { x: 1 })}</tool_call>\nDone.`,
    {
      content: '\nDone.',
      calls: [
        { name: 'f', arguments: '{}' },
        { name: 'g', arguments: '{"x":1}' },
      ],
    },
  ],
  [
    'strings that look like structure',
    hermes,
    `<tool_call>\n${call('run', { cmd: 'mkdir -p test/{test1,test2 "q\\" </tool_call> <tool_call>' })}\n</tool_call>`,
    {
      content: '',
      calls: [{ name: 'run', arguments: JSON.stringify({ cmd: 'mkdir -p test/{test1,test2 "q\\" </tool_call> <tool_call>' }) }],
    },
  ],
  [
    'arguments before the name',
    hermes,
    '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>',
    { content: '', calls: [{ name: 'f', arguments: '{"a": 1}' }] },
  ],
  [
    'no arguments, null arguments, arguments as text, another key',
    hermes,
    '<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g", "arguments": null}</tool_call><tool_call>{"id": 3, "name": "h", "arguments": "{\\"a\\": 1}"}</tool_call>',
    {
      content: '',
      calls: [
        { name: 'f', arguments: '{}' },
        { name: 'g', arguments: '{}' },
        { name: 'h', arguments: '{"a": 1}' },
      ],
    },
  ],
  [
    'cut within the arguments',
    hermes,
    '<tool_call>\n{"name": "f", "arguments": {"a": "x',
    { content: '', calls: [{ name: 'f', arguments: '{"a": "x' }] },
  ],
  ['cut within the name', hermes, 'Hm. <tool_call>\n{"name": "f', { content: 'Hm.', calls: [] }],
  ['cut within the opening', hermes, 'Hm. <tool_c', { content: 'Hm. <tool_c', calls: [] }],
  ['no call after all', hermes, '<tool_call>what?', { content: '<tool_call>what?', calls: [] }],
  ['an object that is no call', hermes, '<tool_call>{"a": 1}', { content: '<tool_call>{"a": 1}', calls: [] }],
  [
    'a call that breaks off in its structure',
    hermes,
    '<tool_call>{"name": "f", "arguments": {}; oh</tool_call>',
    { content: ' oh</tool_call>', calls: [{ name: 'f', arguments: '{}' }] },
  ],
  [
    'a list',
    mistral,
    `[TOOL_CALLS] [${call('f', { a: ']' })}, ${call('g', {})}]`,
    {
      content: '',
      calls: [
        { name: 'f', arguments: '{"a":"]"}' },
        { name: 'g', arguments: '{}' },
      ],
    },
  ],
  ['a list after text', granite, `I will.<|tool_call|>[${call('f', {})}]`, { content: 'I will.', calls: [{ name: 'f', arguments: '{}' }] }],
  ['a bare object', llama, '{"name": "f", "parameters": {"a": 1}}', { content: '', calls: [{ name: 'f', arguments: '{"a": 1}' }] }],
  ['a bare object with a name is a call', llama, '{"name": "f", "age": 5}', { content: '', calls: [{ name: 'f', arguments: '{}' }] }],
  ['other JSON', llama, '{"nam": "Bob"} {"name', { content: '{"nam": "Bob"} {"name', calls: [] }],
  [
    'characters outside the BMP',
    hermes,
    `é🙂<tool_call>{"name": "f", "arguments": {"s": "🙂é"}}</tool_call>🙂`,
    { content: 'é🙂🙂', calls: [{ name: 'f', arguments: '{"s": "🙂é"}' }] },
  ],
];

for (const [name, form, text, expected] of CASES) {
  test(`${name}, whole and character by character`, () => {
    assert.deepEqual(read(form, [text]), expected);
    assert.deepEqual(read(form, text.split('')), expected);
  });
}

test('after an opening that the prompt already holds, the answer begins within the calls', () => {
  assert.deepEqual(read(mistral, [` [${call('f', { a: 1 })}]`], true), { content: '', calls: [{ name: 'f', arguments: '{"a":1}' }] });
});

test('the name comes as soon as it is whole, the arguments as they grow, text as soon as it is certain', () => {
  const reader = new ToolReader(hermes, false);
  const pieces = [
    'Hi',
    ' there',
    ' <tool',
    '_box>',
    '\n<tool_call>',
    '\n{"name": "f"',
    ', "arguments": {"a"',
    ': 1',
    '}}',
    '\n</tool_call>',
  ];
  const seen = pieces.map((piece) => {
    const { content, calls } = reader.push(piece);
    return [content, ...calls.map(({ begins, arguments: text }) => [begins?.name ?? null, text])];
  });
  assert.deepEqual(seen, [
    ['Hi'],
    [' there'],
    [''],
    [' <tool_box>'],
    [''],
    ['', ['f', '']],
    ['', [null, '{"a"']],
    ['', [null, ': 1']],
    ['', [null, '}']],
    [''],
  ]);
});

test('however it is cut, any text is read the same, and calls come out as they were written', () => {
  const cuts = fc.array(fc.nat({ max: 400 }), { maxLength: 12 });
  const args = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 });
  const said = fc.string().filter((text) => !/<tool_call>/.test(text));
  fc.assert(
    fc.property(said, fc.array(fc.record({ name: fc.stringMatching(/^[a-z]{1,8}$/), args }), { maxLength: 3 }), cuts, (text, calls, at) => {
      const written =
        calls.length === 0 ? text : `${text}${hermes.head}${calls.map((c) => call(c.name, c.args)).join(hermes.separator!)}${hermes.tail}`;
      const places = [0, ...at.map((n) => n % (written.length + 1)).sort((a, b) => a - b), written.length];
      const pieces = places.slice(1).map((end, i) => written.slice(places[i], end));
      assert.deepEqual(read(hermes, pieces), {
        content: calls.length === 0 ? text : text.trimEnd(),
        calls: calls.map((c) => ({ name: c.name, arguments: JSON.stringify(c.args) })),
      });
    }),
  );
});

test('whatever a model writes, nothing throws and plain text is never lost', () => {
  const noise = fc.array(
    fc.constantFrom('<tool_call>', '</tool_call>', '{', '}', '"name"', ': ', '"f"', ', ', '"arguments"', '[', 'x', '\\', '\n'),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(noise, fc.constantFrom(hermes, mistral, granite, llama), (parts, form) => {
      assert.deepEqual(read(form, parts), read(form, [parts.join('')]));
    }),
  );
});
