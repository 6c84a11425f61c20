/** Registers the worker with the edge and keeps it registered. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Until the edge says otherwise, and after a failure. */
const RETRY_MS = 500;

/** Beats until aborted. `beat` answers the wait before the next one in ms. */
export async function keepBeating(
  beat: (signal: AbortSignal) => Promise<number>,
  signal: AbortSignal,
  onError: (error: unknown) => void,
): Promise<void> {
  while (!signal.aborted) {
    let wait = RETRY_MS;
    try {
      wait = await beat(signal);
    } catch (error) {
      if (!signal.aborted) onError(error);
    }
    await sleep(wait, undefined, { signal }).catch(() => {});
  }
}
