/** Which of a base's tasks a request is for, and who takes it at a worker. Pure. */
import type { BaseInfo, Task, WorkerRequest } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { Work } from './admission.ts';

const taskOf = (work: Work | WorkerRequest): Task => ('inputs' in work ? 'embed' : 'generate');

const PATHS = { generate: '/generate', embed: '/embed' } as const satisfies Record<Task, string>;

export const workerPath = (request: WorkerRequest) => PATHS[taskOf(request)];

const USES: Record<Task, string> = {
  generate: 'generates text: use /v1/chat/completions, /v1/completions or /v1/responses',
  embed: 'makes embeddings: use /v1/embeddings',
};

export const suits = (work: Work, base: BaseInfo): boolean => base.task === taskOf(work);

/** Throws Failure 'unsupported' naming the endpoints of a base that does something else. */
export function checkTask(work: Work, base: BaseInfo): void {
  if (suits(work, base)) return;
  const named = work.model === base.id ? '' : ` (base ${JSON.stringify(base.id)})`;
  throw new Failure({ kind: 'unsupported', message: `model: ${JSON.stringify(work.model)}${named} ${USES[base.task]}`, param: 'model' });
}
