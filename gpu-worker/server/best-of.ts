/** Of all that was generated for a prompt, the choices that are answered: the likeliest by token. */
import type { GenerateRequest } from '../../shared/contract/worker.ts';
import type { Piece } from './pieces.ts';

/** Mean logprob of the generated tokens; an echoed prompt's come before them. */
function likelihood({ ids, logprobs }: Piece): number {
  if (!logprobs || ids.length === 0) return 0;
  const generated = logprobs.slice(-ids.length);
  return generated.reduce((sum, entry) => sum + (entry.logprob?.logprob ?? 0), 0) / ids.length;
}

export const choosesBest = (request: Pick<GenerateRequest, 'n' | 'best_of'>): boolean => request.best_of > request.n;

/** Pieces of whole answers in order of their sequences → n for each prompt, best first. */
export function bestChoices(pieces: Piece[], { n, best_of: best, logprobs }: Pick<GenerateRequest, 'n' | 'best_of' | 'logprobs'>): Piece[] {
  const chosen: Piece[] = [];
  for (let prompt = 0; prompt * best < pieces.length; prompt++) {
    const ranked = pieces.slice(prompt * best, (prompt + 1) * best).sort((a, b) => likelihood(b) - likelihood(a));
    for (const piece of ranked.slice(0, n))
      chosen.push({ ...piece, index: chosen.length, logprobs: logprobs === null ? null : piece.logprobs });
  }
  return chosen;
}
