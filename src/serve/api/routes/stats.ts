import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import {
  eventStats,
  keyOfStat,
  type Stat,
  type StatSelection,
  statPage,
} from '../../../database/stat-pages.ts';
import { oneOf, responsesOf } from '../answer.ts';
import type { Context } from '../context.ts';
import { kindList } from '../event-filter.ts';
import { addListRoute } from '../list-route.ts';

const seconds = z.int();
/** Events may be dated until the year 19391. */
const day = z
  .string()
  .regex(/^\d{4,5}-\d{2}-\d{2}$/, 'must be a day such as 2024-01-31')
  .refine(isDay, 'must be a day that there is');

const range = z.object({
  since: day.optional().describe('First UTC day.'),
  until: day.optional().describe('First UTC day that is not wanted any more.'),
});
const rangeOfKinds = range.extend({ kinds: kindList.optional() });
const nothing = z.object({});

const dayKey = z.tuple([day]);
const numberKey = z.tuple([z.int()]);
const textKey = z.tuple([z.string()]);

interface StatRoute {
  readonly stat: Stat;
  readonly summary: string;
  readonly row: z.ZodObject;
  readonly key: z.ZodTuple;
  /** What rows may be selected by; nothing, unless told. */
  readonly query?: z.ZodObject;
}

/** Of figures that are counted on a sample of ids. */
const sampled = {
  sample_share: z.number().describe('Share of all ids that belong to the sample.'),
  as_of: seconds.describe('What was stored until then is counted: every six hours.'),
};

const ROUTES: readonly StatRoute[] = [
  {
    ...{ stat: 'days', summary: 'Events by UTC day, the latest first', key: dayKey, query: range },
    row: z.object({
      day,
      event_count: z.int(),
      unique_pubkeys: z.int(),
      unique_kinds: z.int(),
      counted_at: seconds,
    }),
  },
  {
    ...{ stat: 'day_kinds', summary: 'Events by UTC day and kind, the latest first' },
    ...{ key: z.tuple([day, z.int()]), query: rangeOfKinds },
    row: z.object({
      day,
      kind: z.int(),
      events: z.int(),
      authors: z.int(),
      content_bytes: z.int(),
    }),
  },
  {
    ...{ stat: 'kinds', summary: 'Events by kind', key: numberKey },
    row: z.object({
      kind: z.int(),
      category: z.string(),
      event_count: z.int(),
      unique_pubkeys: z.int(),
    }),
  },
  {
    ...{ stat: 'authors', summary: 'Authors, those with most events first' },
    key: z.tuple([z.int(), z.string()]),
    row: z.object({
      pubkey: z.string(),
      event_count: z.int(),
      unique_kinds: z.int(),
      first_event_timestamp: seconds.nullable(),
      last_event_timestamp: seconds.nullable(),
    }),
  },
  {
    ...{ stat: 'networks', summary: 'Relays and events by network', key: textKey },
    row: z.object({
      network: z.string(),
      relay_count: z.int(),
      event_count: z.int(),
      unique_pubkeys: z.int(),
      unique_kinds: z.int(),
    }),
  },
  {
    ...{ stat: 'active_users', summary: 'Authors by day, week and month, the latest first' },
    ...{ key: z.tuple([day, z.string()]), query: range },
    row: z.object({
      grain: z.string(),
      start: day,
      users: z.int(),
      new_users: z.int(),
      with_profile: z.int(),
      with_follows: z.int(),
      counted_at: seconds,
    }),
  },
  {
    ...{ stat: 'retention', summary: 'Authors that are active so many weeks after their first' },
    ...{ key: z.tuple([day, z.int()]), query: range },
    row: z.object({ cohort_week: day, age_weeks: z.int(), users: z.int() }),
  },
  {
    ...{ stat: 'replication', summary: 'On how many relays events were seen', key: numberKey },
    row: z.object({ relays: z.int(), events: z.int(), share: z.number() }),
  },
  {
    ...{ stat: 'relay_lists', summary: 'How many authors say that they use a relay (NIP-65)' },
    key: z.tuple([z.int(), z.string()]),
    row: z.object({
      relay_url: z.string(),
      authors: z.int(),
      readers: z.int(),
      writers: z.int(),
      is_known: z.boolean(),
    }),
  },
  {
    ...{ stat: 'zaps', summary: 'Zaps by UTC day, as receipts say (NIP-57)' },
    ...{ key: dayKey, query: range },
    row: z.object({
      day,
      zaps: z.int(),
      senders: z.int(),
      recipients: z.int(),
      millisats: z.string().describe('In decimal: larger than a number of JSON may be.'),
    }),
  },
  {
    ...{ stat: 'software', summary: 'What relays say they run' },
    key: z.tuple([z.string(), z.string()]),
    row: z.object({ software: z.string(), version: z.string(), relay_count: z.int() }),
  },
  {
    ...{ stat: 'nips', summary: 'NIPs that relays say they support', key: numberKey },
    row: z.object({ nip: z.int(), relay_count: z.int() }),
  },
  {
    ...{ stat: 'relay_cover', summary: 'How much of the archive the first relays hold together' },
    key: numberKey,
    row: z.object({
      rank: z.int().describe('Each relay is the one that adds most to those before it.'),
      relay_url: z.string(),
      new_events: z.int().describe('Sampled events that none of those before it has.'),
      cumulative_share: z.number().nullable(),
      sample_events: z.int(),
      ...sampled,
    }),
  },
  {
    ...{ stat: 'dangling_references', summary: 'References to events that the archive lacks' },
    key: numberKey,
    row: z.object({
      kind: z.int().describe('Kind of the events that refer (tag e).'),
      references: z.int(),
      missing: z.int(),
      ...sampled,
    }),
  },
];

export const totals = z.object({
  event_count: z.int(),
  unique_pubkeys: z.int(),
  unique_kinds: z.int(),
  earliest_event_timestamp: seconds.nullable(),
  latest_event_timestamp: seconds.nullable(),
  regular_event_count: z.int(),
  replaceable_event_count: z.int(),
  ephemeral_event_count: z.int(),
  addressable_event_count: z.int(),
  event_count_last_1h: z.int(),
  event_count_last_24h: z.int(),
  event_count_last_7d: z.int(),
  event_count_last_30d: z.int(),
  events_per_day: z.number(),
});

function isDay(text: string): boolean {
  const [year = 0, month = 0, date = 0] = text.split('-').map(Number);
  const time = new Date(0);
  time.setUTCFullYear(year, month - 1, date);
  return time.getUTCMonth() === month - 1 && time.getUTCDate() === date;
}

/** GET /v1/stats/…: the figures that the refresher keeps. */
export function addStatRoutes(api: FastifyInstance, context: Context): void {
  api.get(
    '/v1/stats/events',
    {
      config: { example: '/v1/stats/events', maxAge: 30 },
      schema: {
        tags: ['stats'],
        summary: 'The whole archive in figures',
        description: 'As of meta.as_of: everything that was stored until then is counted.',
        querystring: z.strictObject({}),
        response: responsesOf(oneOf(totals)),
      },
    },
    async () => {
      const { as_of, ...data } = await context.read(eventStats);
      return { data, meta: await context.meta({ as_of: as_of as number }) };
    },
  );
  for (const route of ROUTES) addStatRoute(api, context, route);
}

function addStatRoute(
  api: FastifyInstance,
  context: Context,
  { stat, summary, row, key, query = nothing }: StatRoute,
): void {
  const url = `/v1/stats/${stat.replace('_', '-')}`;
  addListRoute(api, context, {
    ...{ url, tag: 'stats', summary, row, key, example: `${url}?limit=30`, maxAge: 30 },
    description: 'As of meta.as_of: everything that was stored until then is counted.',
    params: nothing,
    query,
    read: async ({ query: selection }, { after, limit }) => {
      const { rows, asOf } = await context.read((query) =>
        statPage(query, stat, selection as StatSelection, after as unknown[] | null, limit + 1),
      );
      const shown = rows.slice(0, limit);
      const last = shown.at(-1);
      return {
        rows: shown,
        next: rows.length > limit && last ? keyOfStat(stat, last) : null,
        meta: await context.meta({ as_of: asOf }),
      };
    },
  });
}
