import { type FastifyInstance, fastify } from 'fastify';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { oneOf, pageOf, responsesOf } from '../../../src/serve/api/answer.ts';
import { answerCompiler, requestCompiler } from '../../../src/serve/api/compilers.ts';
import { addEntityTags, tagOf } from '../../../src/serve/api/entity-tag.ts';

const row = z.object({ name: z.string() });
const meta = (as_of: number) => ({ as_of, coverage: { relays: 1, complete: 0, share: 0.5 } });

describe('tagOf', () => {
  const text = (data: unknown, as_of: number) => JSON.stringify({ data, meta: meta(as_of) });

  test('does not change with meta', () => {
    expect(tagOf(text([{ name: 'a' }], 1))).toBe(tagOf(text([{ name: 'a' }], 2)));
    expect(tagOf(text([{ name: 'a' }], 1))).toMatch(/^W\/"[\w-]{22}"$/);
  });

  test('changes with the data, also behind a text that looks like meta', () => {
    const looksLikeMeta = ['","meta":{', ',"meta":', '\\",\\"meta\\":{'];
    for (const name of looksLikeMeta)
      expect(tagOf(text([{ name }, { name: 'a' }], 1))).not.toBe(
        tagOf(text([{ name }, { name: 'b' }], 1)),
      );
  });
});

describe('an answer', () => {
  async function answering(answer: unknown, schema: z.ZodType): Promise<FastifyInstance> {
    const app = fastify();
    app.setValidatorCompiler(requestCompiler);
    app.setSerializerCompiler(answerCompiler);
    addEntityTags(app);
    const response = responsesOf(schema);
    app.get('/', { config: { maxAge: 5 }, schema: { response } }, async () => answer);
    return app;
  }

  test('is checked by its schema, without what the schema does not have', async () => {
    const given = { next_cursor: null, data: [{ name: 'a', secret: 1 }], extra: 1, meta: meta(1) };
    const app = await answering(given, pageOf(row));
    const { statusCode, body } = await app.inject('/');
    expect(statusCode).toBe(200);
    expect(body).toBe(JSON.stringify({ data: [{ name: 'a' }], next_cursor: null, meta: meta(1) }));
  });

  test('that its schema does not allow is an error', async () => {
    const app = await answering({ data: { name: 7 }, meta: meta(1) }, oneOf(row));
    expect((await app.inject('/')).statusCode).toBe(500);
  });

  test('is made into text once', async () => {
    let times = 0;
    const name = {
      toJSON: () => {
        times += 1;
        return 'a';
      },
    };
    const schema = z.object({ data: z.object({ name: z.unknown() }), meta: z.unknown() });
    const app = await answering({ data: { name }, meta: meta(1) }, schema);
    const { headers, body } = await app.inject('/');
    expect(JSON.parse(body).data).toEqual({ name: 'a' });
    expect(headers.etag).toBe(tagOf(body));
    expect(times).toBe(1);
  });
});
