/** A tokenizer for tests whose token ids are the bytes of the text, and whose chat template is one line a message. */
import { openTextSide, type TextSide } from '../../../gpu-worker/server/prompts.ts';

function byteAlphabet(): string[] {
  const printable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };

export function byteText(): TextSide {
  const vocab = Object.fromEntries(byteAlphabet().map((char, byte) => [char, byte]));
  const text = openTextSide({
    tokenizerJson: {
      version: '1.0',
      added_tokens: [],
      pre_tokenizer: byteLevel,
      decoder: byteLevel,
      model: { type: 'BPE', vocab, merges: [] },
    },
    tokenizerConfig: { chat_template: '{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}' },
  });
  return text!;
}
