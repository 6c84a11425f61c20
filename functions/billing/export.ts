/**
 * Consumer of the usage queue: answers each doorbell by fetching the batch from its ledger, writing it to
 * the archive and acknowledging it. The object's name and bytes are the batch's own, so doing it twice
 * changes nothing.
 */
import type { Env } from '../env.ts';
import { ledgerOf } from './client.ts';

export interface UsageDoorbell {
  tenant: string;
  batch: string;
}

export async function consumeUsage(messages: MessageBatch<UsageDoorbell>, env: Env): Promise<void> {
  await Promise.all(
    messages.messages.map(async (message) => {
      try {
        await archive(env, message.body);
        message.ack();
      } catch (error) {
        console.error(JSON.stringify({ level: 'error', queue: messages.queue, ...message.body, error: String(error) }));
        message.retry({ delaySeconds: 5 });
      }
    }),
  );
}

async function archive(env: Env, { tenant, batch }: UsageDoorbell): Promise<void> {
  const ledger = ledgerOf(env, tenant);
  const content = await ledger.exportBatch(batch);
  if (!content) return; // acknowledged by an earlier ring
  const key = `usage-archive/${tenant}/${content.day}/${batch}.ndjson`;
  await env.BUCKET.put(key, content.lines.map((line) => `${line}\n`).join(''), { httpMetadata: { contentType: 'application/x-ndjson' } });
  await ledger.acknowledge(batch);
}
