/** POST /seal: packages wait in object storage, not in memory, until it is their turn. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Sealer, sealHandler } from '../../../gpu-worker/server/seal.ts';
import type { SealRequest } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';

const BASE = { id: 'b', revision: 'b'.repeat(64), family: 'llama', layers: 1, linears: new Map(), others: new Set<string>() };

test('many uploads at once are fetched package by package', async () => {
  let [fetching, most] = [0, 0];
  const objects = {
    async get() {
      most = Math.max(most, ++fetching);
      await sleep(5);
      fetching--;
      return Buffer.from('{}');
    },
    put: async () => assert.fail('nothing to store'),
  };
  const sealer = new Sealer(BASE);
  const seal = sealHandler(sealer, BASE, objects, async () => assert.fail('nothing to store'));
  const files = ['adapter_config.json', 'adapter_model.safetensors'].map((name) => ({ name, key: `k/${name}`, bytes: 2 }));
  const request: SealRequest = { tenant: 'ten_aaaaaaaaaaaaaaaa', base: 'b', files };
  const body = new TextEncoder().encode(JSON.stringify(request));
  const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => seal(body, {} as ServerResponse)));
  await sealer.close();
  for (const outcome of outcomes) {
    assert.ok(outcome.status === 'rejected' && outcome.reason instanceof Failure, 'refused');
    assert.equal(outcome.reason.value.kind, 'adapter_rejected');
  }
  assert.equal(most, files.length);
});
