/** Grammars of requests → grammars compiled for one base's vocabulary. */
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar';
import type { Grammar } from '../../../shared/contract/engine.ts';
import { byteLevelAlphabet } from '../../tokenizer/bytes.ts';
import { checkShapes } from './schema/check.ts';
import { ebnfOf, JSON_OBJECT_EBNF } from './schema/ebnf.ts';
import { SchemaProblem } from './schema/problem.ts';
import { readSchema } from './schema/read.ts';
import { structuralTag } from './structural-tag.ts';
import { tokenBytes, type Vocabulary } from './vocabulary.ts';
import { loadXGrammar, type XGrammar } from './xgrammar.ts';

/** Of a grammar's text: what a request may ask to have compiled. */
const MAX_CHARS = 128 * 1024;

export class Compiler {
  readonly #library: XGrammar;
  readonly #compiler: GrammarCompiler;

  static async create(vocabulary: Vocabulary): Promise<Compiler> {
    const library = loadXGrammar();
    const { TokenizerInfo, GrammarCompiler } = library.package;
    // In the byte-level alphabet, whatever the base's own spelling is.
    const letters = [...byteLevelAlphabet()].sort(([, a], [, b]) => a - b).map(([letter]) => letter);
    const size = vocabulary.ends.length;
    const words = Array.from({ length: size }, (_, id) => Array.from(tokenBytes(vocabulary, id), (byte) => letters[byte]!).join(''));
    const info = await TokenizerInfo.createTokenizerInfo(words, 'byte_level', false, size, [...vocabulary.stops]);
    return new Compiler(library, await GrammarCompiler.createGrammarCompiler(info, false));
  }

  private constructor(library: XGrammar, compiler: GrammarCompiler) {
    this.#library = library;
    this.#compiler = compiler;
  }

  /** Throws SchemaProblem for what the grammar's author can mend; after any other error the compiler is of no use any more. */
  async compile(grammar: Grammar): Promise<CompiledGrammar> {
    const source = sourceOf(grammar);
    try {
      if ('tag' in source) return await this.#compiler.compileStructuralTag(source.tag);
      const parsed = await this.#library.package.Grammar.fromEBNF(source.ebnf);
      try {
        return await this.#compiler.compileGrammar(parsed);
      } finally {
        parsed.dispose();
      }
    } catch (cause) {
      // A C++ exception arrives as a number, an abort after it printed its reason.
      const reason = typeof cause === 'number' ? 'the structural tags do not fit together' : String(cause);
      throw new Error(this.#library.takeNotes() || reason, { cause });
    }
  }

  matcher(compiled: CompiledGrammar): Promise<GrammarMatcher> {
    return this.#library.package.GrammarMatcher.createGrammarMatcher(compiled);
  }
}

function sourceOf(grammar: Grammar): { ebnf: string } | { tag: string } {
  switch (grammar.kind) {
    case 'json_object':
      return { ebnf: JSON_OBJECT_EBNF };
    case 'json_schema':
      return { ebnf: ebnfOfSchema(parseJson(grammar.schema)) };
    case 'structural_tag':
      return { tag: structuralTag(parseJson(grammar.tag), ebnfOfSchema) };
    default:
      return grammar satisfies never;
  }
}

function ebnfOfSchema(schema: unknown): string {
  const shape = readSchema(schema);
  checkShapes(shape);
  return ebnfOf(shape);
}

function parseJson(text: string): unknown {
  if (text.length > MAX_CHARS) throw new SchemaProblem('invalid', '', `at most ${MAX_CHARS} characters, got ${text.length}`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SchemaProblem('invalid', '', cause instanceof Error ? cause.message : String(cause));
  }
}
