/**
 * What a tokenizer is built from: the contents of Hugging Face's tokenizer.json and
 * tokenizer_config.json. Plain data, so it can be posted to a worker thread.
 */
export interface TokenizerSource {
  tokenizerJson: Record<string, unknown>;
  /** Holds the chat template (`chat_template`) and the names of the special tokens. */
  tokenizerConfig: Record<string, unknown>;
}
