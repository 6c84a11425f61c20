/**
 * Which modules of a base a LoRA config adapts, with which rank and scale: PEFT's rules
 * (check_target_module_exists, get_pattern_key) against the base's own module names.
 */
import type { AdapterFinding } from '../errors.ts';
import type { BaseModules } from './base.ts';
import { quote, refusal, rejected } from './findings.ts';
import type { LoraConfig } from './lora-config.ts';
import { CONFIG_FILE } from './package-files.ts';
import { Pattern, type StepBudget } from './pattern.ts';
import { PatternError } from './pattern-syntax.ts';

export interface LoraTarget {
  in: number;
  out: number;
  rank: number;
  /** alpha / r, or alpha / √r (rsLoRA). */
  scale: number;
}

/** Matching for one package: a fraction of a second. Honest configs on 300 modules need a thousandth of it. */
const MAX_STEPS = 30_000_000;

/** Targets by module name, in the base's order; `hasTensors` tells what the file holds. Throws a refusal. */
export function resolveTargets(config: LoraConfig, base: BaseModules, hasTensors: (module: string) => boolean): Map<string, LoraTarget> {
  const budget: StepBudget = { steps: MAX_STEPS };
  const allLinear = typeof config.target_modules === 'string' && config.target_modules.toLowerCase() === 'all-linear';
  const isNamed = allLinear ? () => true : matcher(config.target_modules, 'target_modules', budget);
  const isExcluded = config.exclude_modules?.length ? matcher(config.exclude_modules, 'exclude_modules', budget) : () => false;
  const isInLayers = layerFilter(config);
  const exists = (module: string) => !base.bareParameters?.has(module) || hasTensors(module);
  const isTarget = (module: string) => isNamed(module) && !isExcluded(module) && isInLayers(module) && exists(module);

  const findings: AdapterFinding[] = [];
  // 'all-linear' means all but the output layer.
  for (const module of allLinear ? [] : base.others) {
    if (!isTarget(module)) continue;
    const message = `${CONFIG_FILE}: target_modules names ${quote(module)}, which cannot be adapted on ${base.id} yet`;
    findings.push({ code: 'modules', message, file: CONFIG_FILE, got: module });
  }
  const modules = [...base.linears.keys()].filter(isTarget);
  if (modules.length === 0 && findings.length === 0) {
    findings.push({ code: 'config', message: `${CONFIG_FILE}: target_modules matches no module of ${base.id}`, file: CONFIG_FILE });
  }
  const ranks = lookup(config.rank_pattern, 'rank_pattern', modules, budget, findings);
  const alphas = lookup(config.alpha_pattern, 'alpha_pattern', modules, budget, findings);
  if (findings.length > 0) throw rejected(findings);

  return new Map(
    modules.map((module): [string, LoraTarget] => {
      const rank = ranks.get(module) ?? config.r;
      const alpha = alphas.get(module) ?? config.lora_alpha;
      const scale = alpha / (config.use_rslora ? Math.sqrt(rank) : rank);
      return [module, { ...base.linears.get(module)!, rank, scale }];
    }),
  );
}

/** A string is a regular expression for the whole name, a list holds names or their last parts. */
function matcher(wanted: string | readonly string[], field: string, budget: StepBudget): (module: string) => boolean {
  if (typeof wanted === 'string') {
    const pattern = compile(wanted, field, wanted, budget);
    return (module) => guarded(field, wanted, () => pattern.fullMatch(module));
  }
  const names = new Set(wanted);
  return (module) => suffixes(module).some((suffix) => names.has(suffix));
}

/** "a.b.c" → "a.b.c", "b.c", "c". */
function suffixes(module: string): string[] {
  const parts = module.split('.');
  return parts.map((_, i) => parts.slice(i).join('.'));
}

/** A module that target_modules lists by its full name is adapted whatever layers_to_transform says. */
function layerFilter(config: LoraConfig): (module: string) => boolean {
  const { layers_to_transform: layers, layers_pattern: pattern, target_modules: targets } = config;
  if (layers == null || (Array.isArray(layers) && layers.length === 0)) return () => true;
  const wanted = new Set(typeof layers === 'number' ? [layers] : layers);
  const named = new Set(typeof targets === 'string' ? [] : targets);
  const patterns = typeof pattern === 'string' ? [pattern] : (pattern ?? []);
  const finders = patterns.filter((text) => text !== '').map(layerFinder);
  if (finders.length === 0) finders.push(/^.*?\.[^.]*\.(\d+)\./);
  return (module) => {
    if (named.has(module)) return true;
    for (const finder of finders) {
      const index = finder.exec(module)?.[1];
      if (index !== undefined) return wanted.has(Number(index));
    }
    return false;
  };
}

/** Plain names only, so the platform's own (backtracking) engine is safe here. */
function layerFinder(name: string): RegExp {
  if (!/^\w+(\\?\.\w+)*$/.test(name)) {
    throw refusal('config', `${CONFIG_FILE}: layers_pattern ${quote(name)} is not a plain name`, { file: CONFIG_FILE });
  }
  return new RegExp(`^.*?\\.${name}\\.(\\d+)\\.`);
}

/**
 * The values of rank_pattern or alpha_pattern by module: the first key that matches the end of the
 * name wins. A key without any target is refused: a typing error would serve another adapter.
 */
function lookup(
  patterns: ReadonlyMap<string, number> | null | undefined,
  field: string,
  modules: readonly string[],
  budget: StepBudget,
  findings: AdapterFinding[],
): Map<string, number> {
  const out = new Map<string, number>();
  for (const [key, value] of patterns ?? []) {
    const pattern = compile(`(.*\\.)?(${key})$`, field, key, budget);
    const matched = modules.filter((module) => guarded(field, key, () => pattern.prefixMatch(module)));
    for (const module of matched) if (!out.has(module)) out.set(module, value);
    if (matched.length === 0) {
      findings.push({
        code: 'config',
        message: `${CONFIG_FILE}: ${field} ${quote(key)} matches no target module`,
        file: CONFIG_FILE,
        got: quote(key),
      });
    }
  }
  return out;
}

const compile = (source: string, field: string, shown: string, budget: StepBudget): Pattern =>
  guarded(field, shown, () => new Pattern(source, budget));

function guarded<T>(field: string, pattern: string, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw refusal('config', `${CONFIG_FILE}: ${field} ${quote(pattern)} is not a supported regular expression: ${error.message}`, {
      file: CONFIG_FILE,
      got: quote(pattern),
    });
  }
}
