import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Query } from '../../../database/connection.ts';
import * as details from '../../../database/relay-details.ts';
import { type RelayFacts, relayTable } from '../../../database/relay-table.ts';
import { parseRelayUrl, type RelayUrl } from '../../../network/url.ts';
import { type Meta, oneOf, responsesOf } from '../answer.ts';
import { type Context, coverageOf } from '../context.ts';
import { addListRoute, type ListPage } from '../list-route.ts';
import { Problem } from '../problem.ts';
import { asRelayRow, relayRow } from '../relay-row.ts';
import { snakeCased } from '../rows.ts';

const EXAMPLE = '/v1/relays/wss%3A%2F%2Frelay.example.com';
const seconds = z.int();

const params = z.object({
  url: z
    .string()
    .max(255)
    .transform((text, ctx): RelayUrl => {
      const parsed = parseRelayUrl(text);
      if (parsed.ok) return parsed.url;
      ctx.addIssue({ code: 'custom', message: 'is not the URL of a relay (ws:// or wss://)' });
      return z.NEVER;
    })
    .describe('URL of the relay, percent-encoded or as it is.'),
});

const policy = z.object({
  paused_until: seconds.nullable(),
  reason: z.string().nullable().describe('Why it pauses.'),
  pace_ms: z.int().describe('Minimum time between two requests, milliseconds.'),
  page_limit: z.int().nullable(),
  nip77_reason: z.string().nullable().describe('Why NIP-77 is not tried with it.'),
});

export const relayDetails = relayRow.extend({ policy: policy.nullable() });

export const figures = z.object({
  events: z.int().describe('Events seen there.'),
  events_exact: z.boolean().describe('Counted; else estimated, above 100,000.'),
  only_here: z.int().nullable().describe('Events that no other relay has; null: not counted yet.'),
  oldest_event_at: seconds.nullable(),
  newest_event_at: seconds.nullable(),
  quarantined: z.int(),
  withheld: z.int().describe('Events that it lists and does not serve.'),
  up_1_day: z.number().nullable().describe('Share of the known time that it was up.'),
  up_7_days: z.number().nullable(),
  up_30_days: z.number().nullable(),
  up_90_days: z.number().nullable(),
  known_90_days: z.number().nullable().describe('Share of 90 days in which its state was known.'),
  flaps: z.int().nullable().describe('How often it went down in 90 days.'),
});

export const stretch = z.object({
  filter: z.string().describe('The filter that the relay was asked with, as JSON.'),
  since: seconds.describe('First second of created_at.'),
  until: seconds.describe('Last second of created_at.'),
  state: z.enum(['covered', 'gap', 'hole']),
  evidence: z.string().nullable().describe('By what it is proven complete.'),
  proven_at: seconds.nullable(),
  reason: z.string().nullable().describe('Why it cannot be proven.'),
  events: z.int().nullable().describe('Events that the relay showed or withholds there.'),
});

export const interval = z.object({
  state: z.enum(['up', 'down', 'unknown']),
  from_at: seconds,
  to_at: seconds.nullable().describe('null: it goes on.'),
});

export const check = z.object({
  checked_at: seconds,
  name: z.string(),
  success: z.boolean(),
  duration_ms: z.int().nullable(),
  reason: z.string().nullable(),
  data: z.unknown(),
});

export const offence = z.object({
  reason: z.string(),
  count: z.int(),
  first_at: seconds,
  last_at: seconds,
  example_id: z.string().nullable().describe('The id that the first of them claimed.'),
});

/** GET /v1/relays/{url} and what is below it. */
export function addRelayRoutes(api: FastifyInstance, context: Context): void {
  addRelayRoute(api, context);
  addFiguresRoute(api, context);
  addSubject(api, context, {
    ...{ subject: 'coverage', row: stretch, key: z.tuple([z.string(), z.int(), z.string()]) },
    summary: 'Which stretches of time are complete',
    description: 'Stretches of created_at by filter: proven complete, gaps, and holes with reason.',
    keyOf: ({ filter, since, state }: details.Stretch) => [filter, since, state],
    read: (query, url, after, limit) =>
      details.stretches(query, url, after as [string, number, string] | null, limit),
  });
  addSubject(api, context, {
    ...{ subject: 'uptime', row: interval, key: z.tuple([z.int()]) },
    summary: 'When it was up',
    description: 'Intervals of one state, the latest first.',
    keyOf: ({ fromAt }: details.StateInterval) => [fromAt],
    read: (query, url, after, limit) =>
      details.stateIntervals(query, url, (after?.[0] as number | undefined) ?? null, limit),
  });
  addSubject(api, context, {
    ...{ subject: 'checks', row: check, key: z.tuple([z.int(), z.string()]) },
    summary: 'What checks found',
    description: 'Every check, the latest first: open, read, write, nip11, tls, dns and others.',
    keyOf: ({ checkedAt, name }: details.CheckOfRelay) => [checkedAt, name],
    read: (query, url, after, limit) =>
      details.checksOfRelay(query, url, after as [number, string] | null, limit),
  });
  addSubject(api, context, {
    ...{ subject: 'offences', row: offence, key: z.tuple([z.int()]) },
    summary: 'What it sent that was refused',
    description: 'By reason, the most frequent first.',
    keyOf: (_offence: details.OffenceOfRelay, place) => [place],
    read: async (query, url, after, limit) => {
      const from = (after?.[0] as number | undefined) ?? 0;
      return (await details.offencesOfRelay(query, url)).slice(from, from + limit);
    },
  });
}

function addRelayRoute(api: FastifyInstance, context: Context): void {
  api.get(
    '/v1/relays/:url',
    {
      config: { example: EXAMPLE, maxAge: 10 },
      schema: {
        tags: ['relays'],
        summary: 'One relay',
        description: 'Its state, what its latest checks found, and how it is treated.',
        params,
        querystring: z.strictObject({}),
        response: responsesOf(oneOf(relayDetails)),
      },
    },
    async (request) => {
      const { url } = request.params as z.output<typeof params>;
      return context.read(async (query) => {
        const relay = await knownRelay(query, url);
        const learnt = await details.policyOfRelay(query, url);
        const data = { ...asRelayRow(relay), policy: learnt && snakeCased(learnt) };
        return { data, meta: metaOf(relay) };
      });
    },
  );
}

function addFiguresRoute(api: FastifyInstance, context: Context): void {
  api.get(
    '/v1/relays/:url/figures',
    {
      config: { example: `${EXAMPLE}/figures`, maxAge: 10 },
      schema: {
        tags: ['relays'],
        summary: 'Figures of a relay',
        description: 'How many events were seen there, and how much of the time it was up.',
        params,
        querystring: z.strictObject({}),
        response: responsesOf(oneOf(figures)),
      },
    },
    async (request) => {
      const { url } = request.params as z.output<typeof params>;
      return context.read(async (query) => {
        const relay = await knownRelay(query, url);
        const found = await details.figuresOfRelay(query, url);
        return { data: snakeCased(found ?? {}), meta: metaOf(relay) };
      });
    },
  );
}

interface Subject<Stored extends object> {
  readonly subject: string;
  readonly summary: string;
  readonly description: string;
  readonly row: z.ZodObject;
  readonly key: z.ZodTuple;
  /** @param place of the row in the list, from 1 */
  readonly keyOf: (row: Stored, place: number) => readonly unknown[];
  readonly read: (
    query: Query,
    url: string,
    after: readonly unknown[] | null,
    limit: number,
  ) => Promise<Stored[]>;
}

/** Adds a list below a relay. */
function addSubject<Stored extends object>(
  api: FastifyInstance,
  context: Context,
  { subject, summary, description, row, key, keyOf, read }: Subject<Stored>,
): void {
  addListRoute(api, context, {
    ...{ url: `/v1/relays/:url/${subject}`, tag: 'relays', summary, description, row, key, params },
    example: `${EXAMPLE}/${subject}`,
    query: z.object({}),
    maxAge: 10,
    read: ({ params: { url } }, { after, limit }) =>
      context.read(async (query): Promise<ListPage<Record<string, unknown>>> => {
        const relay = await knownRelay(query, url);
        const rows = await read(query, url, after, limit + 1);
        const shown = rows.slice(0, limit);
        const last = shown.at(-1);
        const place = shown.length + Number((after as unknown[] | null)?.[0] ?? 0);
        return {
          rows: shown.map(snakeCased),
          next: rows.length > limit && last ? keyOf(last, place) : null,
          meta: metaOf(relay),
        };
      }),
  });
}

/** @throws Problem */
async function knownRelay(query: Query, url: RelayUrl): Promise<RelayFacts> {
  const [relay] = await relayTable(query, url);
  if (relay) return relay;
  throw new Problem('not-found', 'The archive does not know this relay: /v1/relays has all.', {
    parameter: 'url',
  });
}

/** An answer about one relay rests on the coverage of that relay. */
function metaOf(relay: RelayFacts): Meta {
  return { as_of: Math.floor(Date.now() / 1000), coverage: coverageOf([relay]) };
}
