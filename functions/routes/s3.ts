/** The S3 gateway. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { AppEnv } from '../env.ts';
export const s3 = new OpenAPIHono<AppEnv>();
