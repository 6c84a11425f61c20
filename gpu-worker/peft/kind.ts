/**
 * The interface of an adapter kind: one file for each PEFT method, listed in registry.ts. A kind
 * knows its config and its tensors; unpacking, the sealed form and the card are written once.
 */
import type { BaseModules } from '../../shared/adapters/base.ts';
import type { JsonObject } from '../../shared/adapters/json.ts';
import type { SafetensorsFile } from '../../shared/adapters/safetensors.ts';
import type { SealedTarget } from '../../shared/adapters/sealed.ts';

/** A package whose container is sound; whether config and tensors make sense is the kind's to say. */
export interface AdapterPackage {
  config: JsonObject;
  weights: SafetensorsFile;
}

export interface KindTarget extends SealedTarget {
  /** What was folded into B, for the card. */
  scale: number;
}

export interface AdapterKind {
  /** As the card names it. */
  name: string;
  claims(config: JsonObject): boolean;
  /** The served factors by module of the base; throws a refusal with every fault it finds. */
  seal(source: AdapterPackage, base: BaseModules): ReadonlyMap<string, KindTarget>;
}
