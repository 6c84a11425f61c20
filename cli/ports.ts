/** PORT and WORKER_PORT. */
import { z } from 'zod';

const Port = z.coerce.number().int().min(1).max(65535);

export interface Ports {
  port: number;
  workerPort: number;
}

export function portsFrom(environment: NodeJS.ProcessEnv): Ports {
  const read = (name: string, otherwise: number) => {
    const parsed = Port.safeParse(environment[name] ?? otherwise);
    if (parsed.success) return parsed.data;
    throw new Error(`${name}: expected a port from 1 to 65535, got ${environment[name]}`);
  };
  return { port: read('PORT', 8787), workerPort: read('WORKER_PORT', 8788) };
}
