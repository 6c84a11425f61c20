/** What of a conversation with tools reaches the model: through templates that know tools, and through those that do not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conversationText } from '../../../../gpu-worker/server/tools/conversation.ts';
import { offerOf } from '../../../../gpu-worker/server/tools/offer.ts';
import type { ChatMessage } from '../../../../shared/contract/worker.ts';
import { failure } from '../../source/fixtures.ts';
import { type ChatInput, chatInput, clock, LLAMA, MISTRAL, PLAIN, QWEN, textWith, weather } from './fixtures.ts';

function render(template: string, more: Partial<ChatInput> = {}, special: string | null = null): string {
  const text = textWith(template, special);
  const input = chatInput(more);
  return conversationText(text.source, input.messages, offerOf(input, text));
}

const history: ChatMessage[] = [
  { role: 'user', content: 'Weather in Oslo and Rome?' },
  {
    role: 'assistant',
    content: '',
    tool_calls: [
      { id: 'call_one', name: 'get_weather', arguments: '{"city":"Oslo"}' },
      { id: 'call_two', name: 'get_weather', arguments: '' },
    ],
  },
  { role: 'tool', content: 'rain', tool_call_id: 'call_one' },
  { role: 'tool', content: 'sun', tool_call_id: 'call_two' },
  { role: 'user', content: 'Thanks' },
];

test('a template without tools is told of them in the system message, and of calls and results in words', () => {
  const text = render(PLAIN, { messages: [{ role: 'system', content: 'Be brief.' }, ...history], tools: [weather, clock] });
  assert.ok(text.startsWith('[system]Be brief.\n\n# Tools\n'));
  assert.match(
    text,
    /<tools>\n\{"type":"function","function":\{"name":"get_weather","description":"The weather at a place",.*\}\n\{"type":"function","function":\{"name":"clock","parameters":.*\}\n<\/tools>/,
  );
  assert.ok(
    text.endsWith(
      [
        '[user]Weather in Oslo and Rome?',
        '[assistant]<tool_call>\n{"name": "get_weather", "arguments": {"city":"Oslo"}}\n</tool_call>',
        '<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call>',
        '[user]<tool_response>\nrain\n</tool_response>',
        '<tool_response>\nsun\n</tool_response>',
        '[user]Thanks',
        '[assistant]',
      ].join('\n'),
    ),
    text,
  );
});

test('without a system message the tools make one; a template that refuses or drops it has them in the user’s', () => {
  assert.ok(render(PLAIN).startsWith('[system]# Tools'));
  const refusing = `{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}${PLAIN}`;
  const dropping = "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}";
  for (const template of [refusing, dropping]) assert.match(render(template), /\[user\]Weather in Oslo\?\n\n# Tools/);
});

test('nothing of tools that may not be called is shown', () => {
  for (const template of [PLAIN, QWEN]) assert.doesNotMatch(render(template, { tool_choice: { type: 'none' } }), /tools/i);
  const named = render(QWEN, { tools: [weather, clock], tool_choice: { type: 'function', name: 'clock' } });
  assert.match(named, /clock/);
  assert.doesNotMatch(named, /get_weather/);
});

test('a template that takes tools gets them in OpenAI’s form, and arguments as objects', () => {
  const text = render(QWEN, { messages: history });
  assert.match(
    text,
    /\{"type": "function", "function": \{"name": "get_weather", "description": "The weather at a place", "parameters": \{/,
  );
  assert.match(
    text,
    /<tool_call>\n\{"name": "get_weather", "arguments": \{"city": "Oslo"\}\}\n<\/tool_call>\n<tool_call>\n\{"name": "get_weather", "arguments": \{\}\}/,
  );
  assert.match(text, /\[tool\]rain\n\[tool\]sun\n/);
});

test('Mistral’s ids have nine characters, the same for a call and its result; a required call is opened for it', () => {
  const text = render(MISTRAL, { messages: history.slice(0, 3), tool_choice: { type: 'required' } }, '[TOOL_CALLS]');
  const [, id] = /"arguments": \{"city": "Oslo"\}\} ([0-9a-z]{9})/.exec(text) ?? [];
  assert.ok(id);
  assert.ok(text.endsWith(`[TOOL_RESULTS]rain ${id} get_weather[TOOL_CALLS]`), text);
  assert.doesNotMatch(render(MISTRAL, {}, '[TOOL_CALLS]'), /\[TOOL_CALLS\]/);
});

test('names go to the template, or before the message where it has no use for them', () => {
  const messages: ChatMessage[] = [
    { role: 'user', content: 'hi', name: 'ann' },
    { role: 'assistant', content: 'hello' },
  ];
  assert.match(render(PLAIN, { messages, tools: [] }), /\[user\]ann: hi\n\[assistant\]hello\n/);
  const naming = '{% for m in messages %}[{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}]{{ m.content }}{% endfor %}';
  assert.equal(render(naming, { messages, tools: [] }), '[user ann]hi[assistant]hello');
});

test('a template whose form of calls is unknown is refused by name, unless nothing may be called', () => {
  const odd = '{{ tools }}<tool_call><function=f>';
  assert.throws(() => render(odd), failure('unsupported', /form of calls that is not known/));
  assert.ok(render(odd, { tool_choice: { type: 'none' } }));
  assert.match(render(LLAMA), /"name": "get_weather"/);
});
