/**
 * A decoder: token embedding, layers of blocks on a residual stream, head.
 *
 *   ids → embedding ─┬─────────────────────(+)─┬─────────────────(+)─ … ─ norm → head → logits
 *                    └ norm → block (→ norm) ┘ └ norm → block … ┘
 *
 * Under a precision that rotates, the stream is kept in a rotated basis (see rotation.ts) and norm gains are folded
 * into the linears that follow: the function computed is the same. A norm after a block (gemma) scales channels of
 * the stream's own basis, so there the stream stays as it is, and what linears read is turned while running.
 * Constant factors on embedding, residual and logits are folded into weights in every precision.
 */
import type { Graph, Value } from '../graph/ir.ts';
import * as ops from '../graph/ops.ts';
import type { Block, Building, MakeBlock } from './blocks/block.ts';
import { Residual } from './blocks/residual.ts';
import { rotateBlocks, runningBasis } from './blocks/rotate.ts';
import type { ApplyLinears, StepInputs } from './family.ts';
import { type Basis, intoBasis, type LinearSpec, ORIGINAL } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';
import { rotation } from './rotation.ts';
import type { DecoderConfig } from './source/config.ts';

const EMBEDDING = 'model.embed_tokens';
const HEAD = 'lm_head';
const FINAL_NORM = 'model.norm';
/** Share of the stream's channels that count as loud. */
const LOUD_SHARE = 1 / 72;

/** A block with the norm that it reads, and the one that its result goes through, by their names in the layer. */
export interface Part {
  norm: string;
  block: MakeBlock;
  postNorm?: string;
}

export interface Decoder {
  /** The parts of a layer. */
  layer(i: number): Part[];
  /** What is added to stored norm gains: gemma stores w for 1 + w. */
  gainOffset?: number;
  /** Factors on the embedding, on what each block adds, and on the logits. */
  embeddingScale?: number;
  residualScale?: number;
  logitScale?: number;
  /** Logits l become cap · tanh(l / cap); 0: they stay. */
  logitCap?: number;
}

interface PlacedPart {
  norm: string;
  block: Block;
  postNorm: string | null;
}

export class DecoderModel {
  readonly #config: DecoderConfig;
  readonly #decoder: Decoder;
  readonly #precision: Precision;
  readonly #weights: WeightSource;
  readonly #layers: PlacedPart[][];
  /** Basis of the residual stream. */
  readonly #stream: Basis;
  /** Basis of what blocks add to the stream; no other linear has this very object. */
  readonly #output: Basis;
  /** Turns what linears read of the stream, where the stream itself cannot be turned. */
  readonly #turn: Basis;
  readonly #head: LinearSpec;

  constructor(config: DecoderConfig, decoder: Decoder, precision: Precision, weights: WeightSource) {
    const { hidden_size: hidden, vocab_size: vocab, num_hidden_layers: layers } = config;
    const parts = Array.from({ length: layers }, (_, i) => decoder.layer(i));
    const postNorms = parts.flat().some(({ postNorm }) => postNorm !== undefined);
    const { rotated } = precision;
    this.#config = config;
    this.#decoder = decoder;
    this.#precision = precision;
    this.#weights = weights;
    this.#stream = rotated && !postNorms ? { gain: null, rotation: rotation(hidden) } : ORIGINAL;
    this.#turn = runningBasis(hidden, rotated && postNorms);
    this.#output = { ...this.#stream, gain: constant(hidden, decoder.residualScale ?? 1) };
    this.#layers = parts.map((layer, i) => {
      const path = `model.layers.${i}`;
      return layer.map(({ norm, block, postNorm }) => {
        const input = this.#afterNorm(`${path}.${norm}`);
        const placed = block({ path, input, output: this.#output, rotated });
        return { norm: `${path}.${norm}`, block: placed, postNorm: postNorm === undefined ? null : `${path}.${postNorm}` };
      });
    });
    const logitScale = (decoder.logitScale ?? 1) / (decoder.logitCap || 1);
    const logits: Basis = { gain: constant(vocab, logitScale), rotation: null };
    this.#head = { path: HEAD, in: hidden, out: vocab, bias: false, head: true, input: this.#afterNorm(FINAL_NORM), output: logits };
  }

  /** Every adaptable linear with the basis that the precision serves it in, in execution order. */
  get linears(): LinearSpec[] {
    return this.#blocks.flatMap(({ linears }) => linears);
  }

  /** Modules that exist but take no adapter. */
  get otherModules(): string[] {
    const inLayers = this.#layers
      .flat()
      .flatMap(({ norm, block, postNorm }) => [norm, ...block.norms.keys(), ...(postNorm === null ? [] : [postNorm])]);
    return [EMBEDDING, HEAD, ...inLayers, FINAL_NORM];
  }

  /** Of the linears, those that newer versions of transformers hold as bare parameters. */
  get bareParameters(): string[] {
    return this.#blocks.flatMap(({ bareParameters }) => bareParameters ?? []);
  }

  /** Name → shape of every parameter, under Hugging Face's names. */
  get parameters(): Map<string, number[]> {
    const { vocab_size: vocab, hidden_size: hidden, tie_word_embeddings: tied } = this.#config;
    const all = new Map([[`${EMBEDDING}.weight`, [vocab, hidden]]]);
    for (const { norm, block, postNorm } of this.#layers.flat()) {
      all.set(`${norm}.weight`, [hidden]);
      for (const { path, in: width, out, bias } of block.linears) {
        all.set(`${path}.weight`, [out, width]);
        if (bias) all.set(`${path}.bias`, [out]);
      }
      for (const [path, width] of block.norms) all.set(`${path}.weight`, [width]);
      if (postNorm !== null) all.set(`${postNorm}.weight`, [hidden]);
    }
    all.set(`${FINAL_NORM}.weight`, [hidden]);
    if (!tied) all.set(`${HEAD}.weight`, [vocab, hidden]);
    return all;
  }

  /** Builds the network; returns logits [n, vocab]. */
  build(g: Graph, inputs: StepInputs, apply: ApplyLinears): Value {
    const { hidden_size: hidden, vocab_size: vocab, rms_norm_eps: epsilon } = this.#config;
    const table = g.weight(EMBEDDING, 'f32', [vocab, hidden], () => {
      const rows = this.#weights.tensor(`${EMBEDDING}.weight`);
      intoBasis(rows, hidden, { ...this.#stream, gain: constant(hidden, this.#decoder.embeddingScale ?? 1) });
      return rows;
    });
    const residual = new Residual(g, this.#precision, ops.gatherRows(g, table, inputs.ids, 'embedding'), epsilon);
    const turns = this.#turn.rotation !== null;
    const normed = (path: string): Value => rotateBlocks(g, residual.norm(this.#servedGain(g, path), !turns), this.#turn);
    const numbers = new Map(this.linears.map(({ path }, number) => [path, number]));
    this.#layers.forEach((parts, layer) => {
      const building: Building = {
        g,
        layer,
        inputs,
        precision: this.#precision,
        weights: this.#weights,
        linear: (x, ...specs) => apply(g, x, specs),
        numberOf: (path) => numbers.get(path)!,
        gain: (path, width) => this.#storedGain(g, path, width),
      };
      for (const { norm, block, postNorm } of parts) {
        g.within(`layers.${layer}.${block.name}`, () => {
          const delta = block.build(building, normed(norm));
          residual.add(postNorm === null ? delta : ops.rmsNorm(g, delta, this.#storedGain(g, postNorm, hidden), epsilon));
        });
      }
    });
    return g.within('head', () => {
      residual.keep(inputs.select);
      return this.#capped(g, apply(g, normed(FINAL_NORM), [this.#head], this.#tied));
    });
  }

  get #blocks(): Block[] {
    return this.#layers.flat().map(({ block }) => block);
  }

  /** The head reads the embedding where the two are tied. */
  get #tied(): WeightSource {
    const stored = this.#config.tie_word_embeddings ? EMBEDDING : HEAD;
    return { tensor: (name) => this.#weights.tensor(name === `${HEAD}.weight` ? `${stored}.weight` : name) };
  }

  #capped(g: Graph, logits: Value): Value {
    const cap = this.#decoder.logitCap ?? 0;
    return cap === 0 ? logits : ops.mul(g, ops.tanh(g, logits), g.scalar('f32', cap), 'capped');
  }

  /** Basis of what linears read behind a norm: its gain is theirs to apply when the precision rotates. */
  #afterNorm(norm: string): Basis {
    if (!this.#precision.rotated) return ORIGINAL;
    const turn = this.#stream.rotation ?? this.#turn.rotation;
    return { gain: this.#gain(norm), rotation: turn, loud: () => this.#loud };
  }

  /** What a norm of the stream itself multiplies by. */
  #servedGain(g: Graph, path: string): Value {
    const { hidden_size: hidden } = this.#config;
    if (!this.#precision.rotated) return this.#storedGain(g, path, hidden);
    return g.weight(`ones.${hidden}`, 'f32', [hidden], () => new Float32Array(hidden).fill(1));
  }

  #storedGain = (g: Graph, path: string, width: number): Value => g.weight(`${path}.weight`, 'f32', [width], () => this.#gain(path));

  #gain(path: string): Float32Array {
    const offset = this.#decoder.gainOffset ?? 0;
    const stored = this.#weights.tensor(`${path}.weight`);
    return offset === 0 ? stored : stored.map((w) => w + offset);
  }

  #loudChannels: number[] | null = null;

  /**
   * Channels of the stream that hold most of its energy whatever the text ("massive activations", arXiv:2402.17762):
   * those that the blocks write to with the largest weights.
   */
  get #loud(): number[] {
    if (this.#loudChannels) return this.#loudChannels;
    const energy = new Float64Array(this.#config.hidden_size);
    for (const { path } of this.linears.filter(({ output }) => output === this.#output)) {
      const weight = this.#weights.tensor(`${path}.weight`);
      const width = weight.length / energy.length;
      for (let at = 0; at < weight.length; at++) energy[Math.floor(at / width)]! += weight[at]! ** 2;
    }
    this.#loudChannels = Array.from(energy.keys())
      .sort((a, b) => energy[b]! - energy[a]!)
      .slice(0, Math.floor(energy.length * LOUD_SHARE));
    return this.#loudChannels;
  }
}

/** A gain that is the same for all channels; null: one. */
const constant = (width: number, factor: number): Float32Array | null => (factor === 1 ? null : new Float32Array(width).fill(factor));
