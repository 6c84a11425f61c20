/**
 * The bytes that a token adds to a text. Concatenating them and decoding UTF-8 once gives the same
 * text however tokens cut characters apart, which per-token text cannot.
 */
import { Failure } from '../../shared/errors.ts';

/** GPT-2's alphabet: printable Latin-1 stands for itself, the 68 other bytes for U+0100 upwards in order. */
export function byteLevelAlphabet(): ReadonlyMap<string, number> {
  const printable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const alphabet = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) alphabet.set(String.fromCodePoint(printable(byte) ? byte : next++), byte);
  return alphabet;
}

const utf8 = new TextEncoder();

/** Characters outside the alphabet occur only in tokens that no byte-level vocabulary could merge; they stand for themselves. */
function byteLevelBytes(alphabet: ReadonlyMap<string, number>, token: string): Uint8Array {
  const bytes: number[] = [];
  for (const char of token) {
    const byte = alphabet.get(char);
    if (byte === undefined) return utf8.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

/** SentencePiece: "▁" is a space, "<0xE2>" is one byte. */
function sentencePieceBytes(token: string): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
  return byte ? Uint8Array.of(Number.parseInt(byte, 16)) : utf8.encode(token.replaceAll('▁', ' '));
}

interface DecoderConfig {
  type?: unknown;
  decoders?: unknown;
}

/** Picks the way to read tokens by the `decoder` of a tokenizer.json. */
export function tokenBytesBy(decoder: unknown): (token: string) => Uint8Array {
  const config = (decoder ?? {}) as DecoderConfig;
  const steps = config.type === 'Sequence' && Array.isArray(config.decoders) ? (config.decoders as DecoderConfig[]) : [config];
  const types = steps.map((step) => String(step.type));
  if (types.length === 1 && types[0] === 'ByteLevel') {
    const alphabet = byteLevelAlphabet();
    return (token) => byteLevelBytes(alphabet, token);
  }
  // "Strip" only drops the space before a whole text, which a continuation does not have.
  const pieces = ['Replace', 'ByteFallback', 'Fuse', 'Strip', 'Metaspace'];
  if ((types.includes('ByteFallback') || types.includes('Metaspace')) && types.every((type) => pieces.includes(type)))
    return sentencePieceBytes;
  throw new Failure({
    kind: 'unsupported',
    message: `open tokenizer: decoder ${types.join(' + ')} is not supported (supported: ByteLevel, SentencePiece's ByteFallback or Metaspace)`,
  });
}
