/**
 * How models write calls of functions. An answer is text, and somewhere in it
 *
 *     <opening> … { "name": …, <argumentsKey>: {…} } <separator> { … } <closing>
 *
 * A form is data: what it takes to hold a model to it and to read it back. Which one a base speaks is
 * seen from its chat template.
 */
export interface ToolForm {
  /** Whether a chat template that takes tools teaches this form. */
  taughtBy(template: string): boolean;
  /** The first text of a call, or of a list of calls. */
  opening: string;
  /** `opening` is the call's own JSON rather than a mark before it. */
  openingIsJson: boolean;
  /** What a trained model writes before the first call (it starts with `opening`), between two and after the last. */
  head: string;
  /** null: the form knows one call an answer. */
  separator: string | null;
  tail: string;
  /** Ends the calls; empty: the end of the object does. */
  closing: string;
  argumentsKey: 'arguments' | 'parameters';
  /** A call's id as the template wants it. */
  callId(id: string): string;
}

export const sameId = (id: string): string => id;
