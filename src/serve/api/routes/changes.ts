import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { MAX_LIMIT, metaSchema, pageLimit, problemResponses, wholeNumber } from '../answer.ts';
import {
  CURSOR,
  changePage,
  changeRow,
  changeStream,
  cursorText,
  startOf,
  waitForChanges,
} from '../change-feed.ts';
import type { Context } from '../context.ts';
import { problemSchema } from '../problem.ts';
import { eventRow } from './events.ts';

const MAX_WAIT_SECONDS = 30;
const EVENT_STREAM = 'text/event-stream';
const FIRST_PAGE = 100;

const change = z.object({
  cursor: z.string().describe('Goes on after this event.'),
  stored_at: z.int().describe('When its transaction began, Unix seconds.'),
  relay: z.string().nullable().describe('The relay that brought it.'),
  event: eventRow,
});

const answer = z.object({
  data: z.array(change),
  next_cursor: z.string().describe('Goes on after what was read; keep it where data is empty too.'),
  meta: metaSchema,
});

const query = z.strictObject({
  cursor: z
    .union([z.literal('now'), z.string().regex(CURSOR)])
    .optional()
    .describe('The cursor of an answer, or now; without it, the journal from its beginning.'),
  limit: wholeNumber(1, MAX_LIMIT).optional().describe('Events of a page.'),
  wait: wholeNumber(0, MAX_WAIT_SECONDS)
    .optional()
    .describe('Seconds to wait for something new, where there is nothing (long poll).'),
  format: z.enum(['json', 'sse']).optional().describe('Instead of the header Accept.'),
});

const schema = {
  tags: ['events'],
  summary: 'What is stored, as it is stored',
  description:
    'Each stored event once, in the order of commits, back to the beginning of the journal (JOURNAL_DAYS). As JSON pages, with wait as a long poll; or as server-sent events without end (Accept: text/event-stream), each with its cursor as id, so that Last-Event-ID goes on.',
  querystring: query,
  response: {
    200: {
      description: 'What follows the cursor.',
      content: {
        'application/json': { schema: answer },
        [EVENT_STREAM]: { schema: z.string() },
      },
    },
    ...problemResponses,
    410: {
      description: 'The cursor is older than the journal.',
      content: { 'application/problem+json': { schema: problemSchema } },
    },
  },
};

/** GET /v1/changes. */
export function addChangesRoutes(api: FastifyInstance, context: Context): void {
  api.get(
    '/v1/changes',
    { schema, config: { example: '/v1/changes?limit=10' } },
    async (request, reply) => {
      const { cursor, limit, wait = 0, format } = request.query as z.output<typeof query>;
      const asked = format ?? (request.headers.accept?.includes(EVENT_STREAM) ? 'sse' : 'json');
      reply.header('vary', 'accept, accept-encoding');
      if (asked === 'sse') return sendStream(request, reply, context, cursor);
      const from = await startOf(context, cursor);
      const signal = abortOnClose(reply);
      const page = await waitForChanges(context, from, pageLimit(limit), wait * 1000, signal);
      return {
        data: page.changes.map(changeRow),
        next_cursor: cursorText(page.cursor),
        meta: await context.meta(),
      };
    },
  );
}

async function sendStream(
  request: FastifyRequest,
  reply: FastifyReply,
  context: Context,
  cursor: string | undefined,
): Promise<FastifyReply> {
  const last = request.headers['last-event-id'];
  const from = await startOf(context, typeof last === 'string' ? last : cursor);
  const first = await changePage(context, from, FIRST_PAGE);
  const stream = context.streams.start((signal) => changeStream(context, first, signal));
  reply.header('x-accel-buffering', 'no'); // nginx would hold events back
  return reply.type(`${EVENT_STREAM}; charset=utf-8`).send(stream);
}

/** Aborts when the client has gone. */
function abortOnClose({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController();
  raw.once('close', () => gone.abort());
  return gone.signal;
}
