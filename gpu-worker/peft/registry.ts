/** The adapter kinds that can be sealed, and the refusal of those that cannot. */
import { quote, rejected } from '../../shared/adapters/findings.ts';
import { CONFIG_FILE, WEIGHTS_FILE } from '../../shared/adapters/package-files.ts';
import type { AdapterFinding } from '../../shared/errors.ts';
import type { AdapterKind, AdapterPackage } from './kind.ts';
import { lora } from './lora.ts';

const KINDS: readonly AdapterKind[] = [lora];

/** PEFT's own types (0.21) that have tensors of their own, so that LoRA's under such a config are a contradiction. */
const OTHER_PEFT_TYPES: readonly unknown[] = [
  ...['PROMPT_TUNING', 'MULTITASK_PROMPT_TUNING', 'P_TUNING', 'PREFIX_TUNING', 'ADAMSS', 'BOFT', 'ADAPTION_PROMPT', 'IA3', 'BEFT', 'LILY'],
  ...['LOHA', 'LOKR', 'OFT', 'POLY', 'LN_TUNING', 'VERA', 'FROD', 'PVERA', 'FOURIERFT', 'GLORA', 'HRA', 'VBLORA', 'UNILORA', 'CPT', 'MISS'],
  ...[
    'RANDLORA',
    'ROAD',
    'TRAINABLE_TOKENS',
    'HIRA',
    'SHIRA',
    'C3A',
    'WAVEFT',
    'OSF',
    'DELORA',
    'GRALORA',
    'CARTRIDGE',
    'TINYLORA',
    'PSOFT',
  ],
  ...['PEANUT', 'SHADOW', 'SUPERTUNING', 'DEFT'],
];
/** These store lora_A and lora_B too. */
const LORA_LIKE_PEFT_TYPES: readonly unknown[] = ['ADALORA', 'XLORA'];

/** The kind that claims the package; throws a refusal that names its peft_type. */
export function kindOf({ config, weights }: AdapterPackage): AdapterKind {
  const kind = KINDS.find((candidate) => candidate.claims(config));
  if (kind) return kind;
  const type = config.get('peft_type');
  const findings: AdapterFinding[] = [];
  const hasLoraTensors = [...weights.tensors.keys()].some((name) => /\.lora_[AB]\./.test(name));
  if (OTHER_PEFT_TYPES.includes(type) && hasLoraTensors) {
    const message = `${WEIGHTS_FILE}: the tensors are LoRA's, but the config says peft_type ${type}`;
    findings.push({ code: 'tensors', message, file: WEIGHTS_FILE });
  }
  const isKnown = OTHER_PEFT_TYPES.includes(type) || LORA_LIKE_PEFT_TYPES.includes(type);
  const got = typeof type === 'string' ? quote(type) : 'none';
  const message = typeof type === 'string' ? `peft_type ${got} is ${isKnown ? 'not supported yet' : 'not known'}` : 'peft_type is missing';
  findings.push({ code: 'config', message: `${CONFIG_FILE}: ${message}`, file: CONFIG_FILE, expected: '"LORA"', got });
  throw rejected(findings);
}
