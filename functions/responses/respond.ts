/** A worker's answer to the chat request behind a response, as the responses API answers. */
import type { ResponsesRequest } from '../../shared/contract/responses.ts';
import { Failure } from '../../shared/errors.ts';
import { whole } from './answer.ts';
import { ChatAnswer } from './chat.ts';
import { ResponseEvents } from './events.ts';
import { renamedParam } from './request.ts';
import { translate } from './stream.ts';

export async function toResponse(request: ResponsesRequest, requestId: string, answer: Response): Promise<Response> {
  if (!answer.ok) return Response.json(renamedError(await answer.json()), answer);
  const headers = new Headers(answer.headers);
  headers.delete('content-length');
  if (request.stream && answer.body)
    return new Response(translate(answer.body, new ResponseEvents(request, requestId, Date.now)), { headers });
  const chat = ChatAnswer.safeParse(await answer.json());
  if (!chat.success)
    throw new Failure({ kind: 'upstream', message: 'The worker did not answer with a chat completion.' }, { cause: chat.error });
  return Response.json(whole(request, requestId, chat.data, Date.now()), { headers });
}

/** An error body that names a field of the chat request names this API's. */
function renamedError(body: unknown): unknown {
  const error = (body as { error?: { param?: unknown; message?: unknown } } | null)?.error;
  if (typeof error?.param !== 'string') return body;
  const param = renamedParam(error.param);
  return { error: { ...error, param, message: String(error.message).replace(error.param, param) } };
}
