/** What the tool tests share: a request's tools, and text sides with a chat template of each kind. */
import type { TextSide } from '../../../../gpu-worker/server/prompts.ts';
import { openTextSide } from '../../../../gpu-worker/server/prompts.ts';
import type { GenerateRequest, Tool } from '../../../../shared/contract/worker.ts';
import { byteText } from '../byte-tokens.ts';

export const weather: Tool = {
  name: 'get_weather',
  description: 'The weather at a place',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
  strict: false,
};
export const clock: Tool = { name: 'clock', description: null, parameters: { type: 'object', properties: {} }, strict: false };

export type ChatInput = Extract<GenerateRequest['input'], { kind: 'chat' }>;

export const chatInput = (more: Partial<ChatInput> = {}): ChatInput => ({
  kind: 'chat',
  messages: [{ role: 'user', content: 'Weather in Oslo?' }],
  tools: [weather],
  tool_choice: { type: 'auto' },
  parallel_tool_calls: true,
  ...more,
});

/** Bytes are tokens; `special` is one more, after them. */
export function textWith(template: string, special: string | null = null): TextSide {
  const { source } = byteText();
  const added =
    special === null
      ? []
      : [{ id: 256, content: special, special: true, single_word: false, lstrip: false, rstrip: false, normalized: false }];
  const vocab = (source.tokenizerJson['model'] as { vocab: Record<string, number> }).vocab;
  const model = { type: 'BPE', vocab: special === null ? vocab : { ...vocab, [special]: 256 }, merges: [] };
  return openTextSide({
    tokenizerJson: { ...source.tokenizerJson, model, added_tokens: added },
    tokenizerConfig: { chat_template: template },
  })!;
}

/** Knows no tools, and has a system message of its own. */
export const PLAIN =
  "{% for m in messages %}{% if loop.first and m.role != 'system' %}[system]default\n{% endif %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

/** As Qwen's templates, in short. */
export const QWEN = `{%- if tools %}{{- '[system]<tools>' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}{{- '\\n</tools> in <tool_call></tool_call>\\n' }}{%- endif %}
{%- for m in messages %}{{- '[' + m.role + ']' + m.content }}
{%- for call in m.tool_calls or [] %}{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}{{- '\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '[assistant]' }}{%- endif %}`;

/** As Mistral's, in short. */
export const MISTRAL = `{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{% for m in messages %}{% if m.tool_calls %}[TOOL_CALLS] [{% for call in m.tool_calls %}{% if call.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}{{ call.function | tojson }} {{ call.id }}{% endfor %}]{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }} {{ m.tool_call_id }} {{ m.name }}{% else %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}`;

export const LLAMA = `{% if tools is not none %}Environment: ipython{{ tools | tojson }}{% endif %}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}`;
