/** Download progress on stderr: a bar on a terminal, a line each tenth elsewhere. */
import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  at(bytes: number): void;
  stop(): void;
}

export function showProgress(label: string, total: number): Progress {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);
  if (process.stderr.isTTY) {
    const format = `${label} [{bar}] {percentage}% {megabytes} of ${megabytes(total)} MB, {eta_formatted} left`;
    const bar = new SingleBar({ format, stream: process.stderr, hideCursor: true }, Presets.shades_classic);
    let started = false;
    return {
      at(bytes) {
        if (!started) bar.start(total, bytes, { megabytes: megabytes(bytes) });
        started = true;
        bar.update(bytes, { megabytes: megabytes(bytes) });
      },
      stop: () => bar.stop(),
    };
  }
  let tenth = -1;
  return {
    at(bytes) {
      const now = Math.floor((bytes / total) * 10);
      if (now > tenth) process.stderr.write(`${label}: ${megabytes(bytes)} of ${megabytes(total)} MB\n`);
      tenth = Math.max(tenth, now);
    },
    stop() {},
  };
}
