import type { FastifyInstance, FastifySchema } from 'fastify';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';
import { docsPage, STYLE } from './docs-page.ts';

/** The description of the API: OpenAPI 3.1 at /openapi.json, and a page for people at /docs. */

/** The head of the OpenAPI document. */
export function openApiInfo(version: string) {
  return {
    info: {
      title: 'Bigbrotr',
      version,
      description:
        'An archive of Nostr. Everything is read by GET. Times are Unix seconds, ids and keys lower-case hex. Each answer says in meta how complete the data is that it rests on; NDJSON and CSV say it in the headers Archive-As-Of and Archive-Coverage.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    tags: [
      { name: 'archive', description: 'How the archive stands, and how complete it is.' },
      { name: 'events', description: 'Events, and where they were seen.' },
      { name: 'authors', description: 'Authors: profile, relay list, figures and follows.' },
      { name: 'stats', description: 'Figures that are kept, each with the time that it is of.' },
      { name: 'relays', description: 'Relays, their health, and what is proven of them.' },
    ],
  };
}

type Transform = typeof jsonSchemaTransform;

/** The zod schemas of a route as JSON Schema, with its example. */
export const describeRoute: Transform = (document) => {
  const described = jsonSchemaTransform(document);
  const example = document.route.config?.example;
  if (example === undefined) return described;
  return { ...described, schema: { ...described.schema, 'x-example': example } as FastifySchema };
};

/** GET /openapi.json and /docs. */
export function addDocs(api: FastifyInstance): void {
  const hidden = { schema: { hide: true } as FastifySchema };
  api.get('/openapi.json', hidden, async (_request, reply) => {
    reply.header('cache-control', 'public, max-age=300');
    return reply.type('application/json; charset=utf-8').send(JSON.stringify(api.swagger()));
  });
  api.get('/docs', hidden, async (_request, reply) => {
    reply.header('cache-control', 'public, max-age=300');
    return reply.type('text/html; charset=utf-8').send(docsPage(api.swagger()));
  });
  api.get('/docs.css', hidden, async (_request, reply) => {
    reply.header('cache-control', 'public, max-age=300');
    return reply.type('text/css; charset=utf-8').send(STYLE);
  });
}
