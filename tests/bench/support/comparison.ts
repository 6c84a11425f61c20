/** Ours and llama.cpp side by side: opened from the same options, reported in the same rows. */
import type { AdapterRef } from '../../../shared/contract/worker.ts';
import type { BenchBase } from './base.ts';
import { BenchEngine, PRECISIONS } from './engine.ts';
import { LlamaCpp, QUANTISATIONS, type Quantisation } from './llama-cpp.ts';
import { listOf, type Options } from './options.ts';
import type { Report } from './report.ts';
import { ratios, type Samples } from './statistics.ts';

export const SIDES = { precision: 'int8,int4', peers: 'llama.cpp' };
export const SIDES_HELP = `  --precision LIST  of ours: int4, int8, fp32 (int8,int4); targets are the first one's
  --peers NAME      llama.cpp or none (llama.cpp)
`;

export interface Side {
  precision: string;
  engine: BenchEngine;
  adapters: AdapterRef[];
}

/** Names of what is measured, as samples and tables have them. */
export const sideNames = {
  bare: (side: Side) => side.precision,
  adapted: (side: Side) => `${side.precision} + adapters`,
  shared: (side: Side) => `${side.precision} + one adapter`,
  peer: (quantisation: Quantisation) => `llama.cpp ${quantisation}`,
};

export class Comparison {
  readonly ours: readonly Side[];
  readonly peer: LlamaCpp | null;

  private constructor(ours: readonly Side[], peer: LlamaCpp | null) {
    this.ours = ours;
    this.peer = peer;
  }

  /** An engine for each precision asked for, `adapters` different adapters resident in each. */
  static async open(options: Options<keyof typeof SIDES>, report: Report, base: BenchBase, adapters: number): Promise<Comparison> {
    const precisions = listOf('--precision', options.own.precision, PRECISIONS);
    const withPeer = listOf('--peers', options.own.peers, ['llama.cpp', 'none']).includes('llama.cpp');
    const peer = withPeer ? await LlamaCpp.setUp(base.path) : null;
    if (peer) report.note(peer.build);
    const ours: Side[] = [];
    for (const precision of precisions) {
      const engine = await BenchEngine.open(base, precision);
      ours.push({ precision, engine, adapters: await engine.loadAdapters(adapters) });
    }
    return new Comparison(ours, peer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { engine } of this.ours) await engine[Symbol.asyncDispose]();
  }

  get quantisations(): readonly Quantisation[] {
    return this.peer ? QUANTISATIONS : [];
  }

  /** Adds the speeds at one size and the ratios of ours, bare, to the peer's. Samples are named `${side} ${size}`. */
  report(report: Report, what: string, size: string, samples: Samples, targets: Partial<Record<Quantisation, number>>): void {
    const of = (side: string) => samples.of(`${side} ${size}`);
    const speed = (side: string) => report.add({ name: `${what} ${size}, ${side}`, unit: 'tok/s', samples: of(side) });
    for (const side of this.ours) for (const name of [sideNames.bare(side), sideNames.adapted(side)]) speed(name);
    for (const quantisation of this.quantisations) {
      speed(sideNames.peer(quantisation));
      for (const side of this.ours) {
        const target = side === this.ours[0] ? targets[quantisation] : undefined;
        report.add({
          name: `${what} ${size}, ${side.precision} / ${quantisation}`,
          unit: '×',
          samples: ratios(of(sideNames.bare(side)), of(sideNames.peer(quantisation))),
          ...(target === undefined ? {} : { target: { atLeast: target } }),
        });
      }
    }
  }
}
