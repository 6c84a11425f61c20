/**
 * When nobody waits for a request any more: the official clients say how long they do. A header that cannot be
 * read says nothing, since clients send it for statistics, not to ask for anything. Pure.
 */

/** Seconds until the client gives up on the whole answer, and on its next byte: before the first they are the same. */
const TIMEOUT_HEADERS = ['x-stainless-timeout', 'x-stainless-read-timeout'];

/** Whoever says more than a day has no deadline. */
const MOST_SECONDS = 86_400;

/** Milliseconds since the epoch, null for none. */
export function deadlineOf(headers: Headers, arrived: number): number | null {
  const timeouts = TIMEOUT_HEADERS.map((name) => secondsIn(headers.get(name))).filter((seconds) => seconds !== null);
  if (timeouts.length === 0) return null;
  // Some clients round down: the second that has begun is still theirs.
  return arrived + (Math.floor(Math.min(...timeouts)) + 1) * 1000;
}

/** Zero is what clients without a timeout write. */
function secondsIn(value: string | null): number | null {
  if (value === null || !/^\d{1,9}(\.\d{1,20})?$/.test(value)) return null;
  const seconds = Number(value);
  return seconds > 0 && seconds <= MOST_SECONDS ? seconds : null;
}
