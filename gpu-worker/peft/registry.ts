/** The adapter kinds that can be sealed, and the refusal of those that cannot. */

import { quote, rejected } from '../../shared/adapters/findings.ts';
import { CONFIG_FILE, WEIGHTS_FILE } from '../../shared/adapters/package-files.ts';
import type { AdapterFinding } from '../../shared/errors.ts';
import type { AdapterKind, AdapterPackage } from './kind.ts';
import { lora } from './lora.ts';

const KINDS: readonly AdapterKind[] = [lora];
/** PEFT types other than LORA whose files hold plain lora_A and lora_B factors. */
const WITH_LORA_TENSORS: readonly unknown[] = ['ADALORA', 'XLORA'];

export function kindOf({ config, weights }: AdapterPackage): AdapterKind {
  const kind = KINDS.find((candidate) => candidate.claims(config));
  if (kind) return kind;
  const type = config.get('peft_type');
  const findings: AdapterFinding[] = [];
  if (
    typeof type === 'string' &&
    !WITH_LORA_TENSORS.includes(type) &&
    [...weights.tensors.keys()].some((name) => /\.lora_[AB]\./.test(name))
  ) {
    const message = `${WEIGHTS_FILE}: the tensors are LoRA's, but the config says peft_type ${quote(type)}`;
    findings.push({ code: 'tensors', message, file: WEIGHTS_FILE });
  }
  const message = typeof type === 'string' ? `peft_type ${quote(type)} is not supported` : 'peft_type is missing or not a string';
  findings.push({
    code: 'config',
    message: `${CONFIG_FILE}: ${message}`,
    file: CONFIG_FILE,
    expected: '"LORA"',
    got: typeof type === 'string' ? quote(type) : 'no name',
  });
  throw rejected(findings);
}
