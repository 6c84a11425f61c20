/** The API's description, generated from the schemas that check requests, and its browser page. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { Scalar } from '@scalar/hono-api-reference';
import type { AppEnv } from '../env.ts';

export function docs(app: OpenAPIHono<AppEnv>): OpenAPIHono<AppEnv> {
  const area = new OpenAPIHono<AppEnv>();
  app.openAPIRegistry.registerComponent('securitySchemes', 'key', {
    type: 'http',
    scheme: 'bearer',
    description: 'sy_<kind>_<id>_<secret>',
  });
  area.get('/openapi.json', (c) =>
    c.json(
      app.getOpenAPI31Document({
        openapi: '3.1.0',
        info: { title: 'Switchyard', version: '1', description: 'Serverless hosting for fine-tuned adapters.' },
        servers: [{ url: new URL(c.req.url).origin }],
        security: [{ key: [] }],
      }),
    ),
  );
  area.get('/docs', Scalar({ url: '/openapi.json', pageTitle: 'Switchyard' }));
  return area;
}
