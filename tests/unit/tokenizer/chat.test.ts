/** Chat templates: what reaches them, which one is taken, and how their refusals come back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasChatTemplate, renderChat } from '../../../gpu-worker/tokenizer/chat.ts';
import type { TokenizerSource } from '../../../gpu-worker/tokenizer/source.ts';
import { failure } from '../source/fixtures.ts';

const source = (tokenizerConfig: Record<string, unknown>): TokenizerSource => ({ tokenizerJson: {}, tokenizerConfig });
const messages = [
  { role: 'user', content: 'Hi {{ bos_token }}' },
  { role: 'assistant', content: '<b>' },
];
const render = (chat_template: unknown, more: Record<string, unknown> = {}, addGenerationPrompt = true) =>
  renderChat(source({ ...more, chat_template }), messages, { addGenerationPrompt, tools: null });

test('messages, special tokens and the generation prompt reach the template; contents are not templates', () => {
  const template =
    '{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}';
  const tokens = { bos_token: '<s>', eos_token: { content: '</s>', special: true } };
  assert.equal(render(template, tokens), '<s>[user]Hi {{ bos_token }}</s>[assistant]<b></s>[assistant]');
  assert.equal(render(template, tokens, false), '<s>[user]Hi {{ bos_token }}</s>[assistant]<b></s>');
});

test('block tags take the line break and indentation around them, as transformers sets Jinja up', () => {
  assert.equal(render('{% for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\n'), 'user\nassistant\n');
});

test('templates may ask whether there are tools', () => {
  assert.equal(render('{% if tools is not none %}tools{% else %}none{% endif %}'), 'none');
});

test('of several templates "default" is taken', () => {
  const several = [
    { name: 'tool_use', template: 'T' },
    { name: 'default', template: 'D' },
  ];
  assert.equal(render(several), 'D');
  assert.equal(hasChatTemplate(source({ chat_template: several })), true);
  assert.equal(hasChatTemplate(source({ chat_template: several.slice(0, 1) })), false);
});

test('a base without a template says so', () => {
  assert.equal(hasChatTemplate(source({})), false);
  assert.throws(() => render(undefined), failure('unsupported', /no chat template; use \/v1\/completions/));
});

test('a template that is none is named as the cause', () => {
  assert.throws(() => render('{% for m in %}'), failure('unsupported', /chat template is not supported/));
});

test("a template's refusal is the client's error, in the template's words", () => {
  const strict = "{{ raise_exception('roles must alternate') }}";
  assert.throws(() => render(strict), failure('invalid_request', /render chat: .*roles must alternate/));
});
