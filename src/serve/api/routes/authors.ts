import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { authorFigures, currentEvent, followsOf } from '../../../database/author-details.ts';
import { oneOf, responsesOf } from '../answer.ts';
import type { Context } from '../context.ts';
import { authorKey } from '../identifiers.ts';
import { addListRoute } from '../list-route.ts';
import { Problem } from '../problem.ts';
import { snakeCased } from '../rows.ts';
import { eventRow } from './events.ts';

const EXAMPLE = '/v1/authors/82341f882b6eabcd2ba7f1ef90aad961cf074af15b9ef44a09f9d2a8fbfbe6a2';
const PROFILE = 0;
const RELAY_LIST = 10_002;
const seconds = z.int().nullable();
const params = z.object({ pubkey: authorKey });

export const author = z.object({
  pubkey: z.string(),
  profile: eventRow.nullable().describe('Its current profile (kind 0).'),
  relay_list: eventRow.nullable().describe('Its current relay list (kind 10002, NIP-65).'),
  figures: z.object({
    events: z.int(),
    kinds: z.int(),
    first_event_at: seconds,
    last_event_at: seconds,
    follows: z.int(),
    followers: z.int(),
  }),
});

/** GET /v1/authors/{pubkey}, whom it follows and who follows it. */
export function addAuthorRoutes(api: FastifyInstance, context: Context): void {
  api.get(
    '/v1/authors/:pubkey',
    {
      config: { example: EXAMPLE, maxAge: 10 },
      schema: {
        tags: ['authors'],
        summary: 'An author',
        description: 'Current profile and relay list, and figures, as far as they are counted.',
        params,
        querystring: z.strictObject({}),
        response: responsesOf(oneOf(author)),
      },
    },
    async (request) => {
      const { pubkey } = request.params as z.output<typeof params>;
      const data = await context.read(async (query) => {
        const figures = await authorFigures(query, pubkey);
        if (!figures) throw unknownAuthor();
        const profile = await currentEvent(query, pubkey, PROFILE);
        const relay_list = await currentEvent(query, pubkey, RELAY_LIST);
        return { pubkey, profile, relay_list, figures: snakeCased(figures) };
      });
      return { data, meta: await context.meta() };
    },
  );
  for (const side of ['follows', 'followers'] as const)
    addListRoute(api, context, {
      ...{ url: `/v1/authors/:pubkey/${side}`, tag: 'authors', params, maxAge: 10 },
      summary: side === 'follows' ? 'Whom an author follows' : 'Who follows an author',
      description: 'By current follow lists (kind 3, NIP-02).',
      example: `${EXAMPLE}/${side}`,
      query: z.object({}),
      row: z.object({ pubkey: z.string() }),
      key: z.tuple([z.int().max(2 ** 31 - 1)]),
      read: async ({ params: { pubkey } }, { after, limit }) => {
        const found = await context.read(async (query) => {
          if (!(await authorFigures(query, pubkey))) throw unknownAuthor();
          return followsOf(query, pubkey, side, after?.[0] ?? null, limit + 1);
        });
        const shown = found.slice(0, limit);
        const last = shown.at(-1);
        return {
          rows: shown.map((one) => ({ pubkey: one.pubkey })),
          next: found.length > limit && last ? [last.authorId] : null,
          meta: await context.meta(),
        };
      },
    });
}

function unknownAuthor(): Problem {
  return new Problem('not-found', 'Nothing of this author is counted in the archive.', {
    parameter: 'pubkey',
  });
}
