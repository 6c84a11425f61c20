/** What the two APIs differ in: the names of their objects, and what a choice looks like. */
import type { Piece } from './pieces.ts';

export interface ChoiceFormat {
  idPrefix: string;
  object: string;
  chunkObject: string;
  /**
   * One choice for each event of the stream; none when the piece has nothing to show.
   * `first`: nothing of this sequence was streamed before. `always`: show it even so.
   */
  streamChoices(piece: Piece, show: { first: boolean; always: boolean }): Record<string, unknown>[];
  wholeChoice(piece: Piece): Record<string, unknown>;
}
