/**
 * adapter_config.json of a PEFT LoRA adapter: which fields are honoured, which have no bearing on
 * inference, and which change the meaning of the weights and are therefore refused by name unless
 * they are off. PEFT adds fields with every release, so a field that is not listed is refused too,
 * unless its value is null, false or empty.
 * Reference: peft/tuners/lora/config.py of PEFT 0.3 to 0.21.
 */
import { z } from 'zod';
import type { AdapterFinding } from '../errors.ts';
import { quote, rejected } from './findings.ts';
import { isJsonObject, type JsonObject, type JsonValue } from './json.ts';
import { CONFIG_FILE } from './package-files.ts';

/** The most that a worker can have in one request. */
const MAX_RANK = 2_048;
const MAX_NAMES = 100_000;

const rank = z.number().int().min(1).max(MAX_RANK);
const alpha = z.number();
const name = z.string().min(1);
const names = z.array(name).max(MAX_NAMES);
const layer = z.number().int().nonnegative();

/** The fields that say what the adapter computes, with PEFT's defaults for those that older versions did not write. */
const LoraFields = z.object({
  base_model_name_or_path: z.string().max(1_000).nullish(),
  r: rank.default(8),
  lora_alpha: alpha.default(8),
  use_rslora: z.boolean().default(false),
  rank_pattern: z.map(name, rank).nullish(),
  alpha_pattern: z.map(name, alpha).nullish(),
  target_modules: z.union([name, names.min(1)]),
  exclude_modules: z.union([z.string(), names]).nullish(),
  layers_to_transform: z.union([layer, z.array(layer).max(MAX_NAMES)]).nullish(),
  layers_pattern: z.union([z.string(), z.array(z.string()).max(100)]).nullish(),
});
export type LoraConfig = z.infer<typeof LoraFields>;

/** Values of init_lora_weights after which the base is what it was; the others train against a rewritten base. */
const PLAIN_INITS: readonly JsonValue[] = [true, false, 'gaussian', 'eva', 'orthogonal'];
const TASKS: readonly JsonValue[] = ['CAUSAL_LM', 'FEATURE_EXTRACTION'];

/** What training did or who wrote the file: nothing in the served function depends on it. */
const NO_BEARING: ReadonlySet<string> = new Set([
  ...['peft_type', 'peft_version', 'auto_mapping', 'revision', 'inference_mode', 'lora_dropout'],
  // Options of initialisations and of training; init_lora_weights itself is checked.
  ...['eva_config', 'corda_config', 'lora_ga_config', 'loftq_config', 'velora_config'],
  // Parameters of features that are refused by their own switch.
  ...['megatron_core', 'qalora_group_size', 'ensure_weight_tying'],
]);

/** What a field does when it is on, for the message that refuses it. */
const NOT_HONOURED: ReadonlyMap<string, string> = new Map([
  ['use_dora', 'DoRA (weight-decomposed LoRA)'],
  ['lora_bias', 'biases on lora_B'],
  ['modules_to_save', 'modules saved whole'],
  ['trainable_token_indices', 'trained token embeddings'],
  ['target_parameters', 'LoRA on bare parameters (fused experts)'],
  ['layer_replication', 'replicated layers'],
  ['use_bdlora', 'block-diagonal LoRA'],
  ['kasa_config', 'KaSA'],
  ['alora_invocation_tokens', 'activated LoRA'],
  ['arrow_config', 'Arrow routing'],
  ['use_qalora', 'QALoRA'],
  ['monteclora_config', 'MonteCLoRA'],
  ['megatron_config', "Megatron's parallel layers"],
  ['fan_in_fan_out', 'transposed base weights'],
]);

/** Reads the config; throws a refusal with every field that is wrong or not honoured. */
export function readLoraConfig(config: JsonObject): LoraConfig {
  const findings: AdapterFinding[] = [];
  const add = (field: string, message: string, expected: string, value: JsonValue | undefined) =>
    findings.push({
      code: 'config',
      message: `${CONFIG_FILE}: ${message}`,
      file: CONFIG_FILE,
      expected: `${field}: ${expected}`,
      got: show(value),
    });

  const fields = Object.fromEntries(Object.keys(LoraFields.shape).map((key) => [key, config.get(key)]));
  const parsed = LoraFields.safeParse(fields);
  for (const issue of parsed.error?.issues ?? []) {
    const field = String(issue.path[0]);
    add(field, `${issue.path.map((part) => quote(String(part))).join('.')}: ${explain(issue)}`, 'a valid value', config.get(field));
  }

  for (const [field, value] of config) {
    if (Object.hasOwn(LoraFields.shape, field) || NO_BEARING.has(field)) continue;
    switch (field) {
      case 'bias':
        if (value !== 'none') add(field, `bias ${show(value)} (trained biases) is not supported`, '"none"', value);
        break;
      case 'init_lora_weights':
        if (value !== null && !PLAIN_INITS.includes(value)) {
          const advice = 'convert the adapter with path_initial_model_for_weight_conversion';
          add(field, `init_lora_weights ${show(value)} rewrites the base weights; ${advice}`, PLAIN_INITS.map(show).join(', '), value);
        }
        break;
      case 'task_type':
        if (value !== null && !TASKS.includes(value))
          add(field, `task_type ${show(value)} is not supported`, TASKS.map(show).join(', '), value);
        break;
      default:
        if (!isOff(value)) {
          const feature = NOT_HONOURED.get(field);
          add(
            field,
            feature ? `${field}: ${feature} is not supported` : `field ${quote(field)} is not known`,
            'null, false or empty',
            value,
          );
        }
    }
  }
  if (parsed.success) findings.push(...layerFindings(parsed.data));
  if (!parsed.success || findings.length > 0) throw rejected(findings);
  return parsed.data;
}

/** Combinations that PEFT refuses as well. */
function layerFindings(config: LoraConfig): AdapterFinding[] {
  const finding = (message: string): AdapterFinding => ({ code: 'config', message: `${CONFIG_FILE}: ${message}`, file: CONFIG_FILE });
  const out: AdapterFinding[] = [];
  const hasPattern = config.layers_pattern != null && config.layers_pattern.length > 0;
  if (typeof config.target_modules === 'string' && (config.layers_to_transform != null || hasPattern)) {
    out.push(finding('layers_to_transform and layers_pattern need target_modules to be a list'));
  }
  if (hasPattern && config.layers_to_transform == null) out.push(finding('layers_pattern needs layers_to_transform'));
  return out;
}

function isOff(value: JsonValue): boolean {
  if (isJsonObject(value)) return value.size === 0;
  return value === null || value === false || (Array.isArray(value) && value.length === 0);
}

function show(value: JsonValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return quote(value);
  if (isJsonObject(value)) return 'an object';
  return Array.isArray(value) ? 'a list' : String(value);
}

/** A union fails with one message for each of its members; say them all. */
function explain(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'invalid_union') return issue.message;
  return issue.errors.flatMap((member) => member.map((inner) => inner.message)).join(' or ');
}
