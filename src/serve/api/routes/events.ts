import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { EventSelection } from '../../../database/event-keys.ts';
import {
  type EventPage,
  eventById,
  type PageSize,
  relaysOfEvent,
} from '../../../database/event-pages.ts';
import type { NostrEvent } from '../../../nostr/event.ts';
import {
  accessPathOf,
  NARROW,
  readEvents,
  referencesTo,
  selectionOf,
} from '../../query/event-query.ts';
import { type Meta, oneOf, responsesOf } from '../answer.ts';
import type { Context } from '../context.ts';
import { filterOf, filterQuery } from '../event-filter.ts';
import { eventId } from '../identifiers.ts';
import { addListRoute, type ListPage } from '../list-route.ts';
import { Problem } from '../problem.ts';

const EXAMPLE_ID = '2e6dcaa6f7767b2f0ad7756e5bb19145dcd9817beb078ca7478154ad4fad54cd';
/** An event never changes, but may be deleted from the archive. */
const EVENT_MAX_AGE = 60;
const LIST_MAX_AGE = 5;
/** A page of events ends with the one that reaches this many bytes of content and tags. */
const PAGE_BYTES = 4 * 1024 * 1024;

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));

/** An event as in NIP-01. */
export const eventRow = z
  .object({
    id: hex(32),
    pubkey: hex(32),
    created_at: z.int(),
    kind: z.int(),
    tags: z.array(z.array(z.string())),
    content: z.string(),
    sig: hex(64),
  })
  .describe('An event (NIP-01), exactly as signed.');

const placeKey = z.tuple([z.int(), hex(32)]);
type PlaceKey = z.output<typeof placeKey>;
const idParams = z.object({ id: eventId });
export const relayOfEvent = z.object({
  url: z.string(),
  seen_at: z.int().describe('When it was first seen there, Unix seconds.'),
});

/** GET /v1/events, one of them, the relays that hold it, and what refers to it. */
export function addEventRoutes(api: FastifyInstance, context: Context, timeoutMs: number): void {
  const reading = { context, timeoutMs };
  addListRoute(api, context, {
    url: '/v1/events',
    tag: 'events',
    summary: 'Events that match a filter',
    description:
      'A NIP-01 filter as parameters, newest first, by id where the second is the same. Lists are separated by commas or repeated; tag values are repeated only.',
    example: '/v1/events?kinds=1&limit=10',
    params: z.object({}),
    query: filterQuery,
    row: eventRow,
    key: placeKey,
    maxAge: LIST_MAX_AGE,
    read: ({ query }, { after, limit }) =>
      eventList(reading, selectionOf(filterOf(query)), after, limit),
  });
  addEventRoute(api, context);
  addRelaysRoute(api, context);
  addListRoute(api, context, {
    url: '/v1/events/:id/references',
    tag: 'events',
    summary: 'What refers to an event',
    description:
      'Events with its id in a tag e or q, and where it is replaceable or addressable with its address in a tag a or q, newest first. The event itself may be missing.',
    example: `/v1/events/${EXAMPLE_ID}/references`,
    params: idParams,
    query: z.object({}),
    row: eventRow,
    key: placeKey,
    maxAge: LIST_MAX_AGE,
    read: async ({ params: { id } }, { after, limit }) => {
      const event = await context.read((query) => eventById(query, id));
      return eventList(reading, referencesTo(id, event), after, limit);
    },
  });
}

function addEventRoute(api: FastifyInstance, context: Context): void {
  api.get(
    '/v1/events/:id',
    {
      config: { example: `/v1/events/${EXAMPLE_ID}`, maxAge: EVENT_MAX_AGE },
      schema: {
        tags: ['events'],
        summary: 'An event',
        description: 'By its id, in hex or Bech32.',
        params: idParams,
        querystring: z.strictObject({}),
        response: responsesOf(oneOf(eventRow)),
      },
    },
    async (request) => {
      const { id } = request.params as z.output<typeof idParams>;
      const data = await context.read((query) => eventById(query, id));
      if (!data) throw notArchived();
      return { data, meta: await context.meta() };
    },
  );
}

function addRelaysRoute(api: FastifyInstance, context: Context): void {
  addListRoute(api, context, {
    url: '/v1/events/:id/relays',
    tag: 'events',
    summary: 'The relays that hold an event',
    description: 'Where it was seen, and when first, by URL.',
    example: `/v1/events/${EXAMPLE_ID}/relays`,
    params: idParams,
    query: z.object({}),
    row: relayOfEvent,
    key: z.tuple([z.string()]),
    maxAge: LIST_MAX_AGE,
    read: async ({ params: { id } }, { after, limit }) => {
      const found = await context.read(async (query) => {
        const relays = await relaysOfEvent(query, id, after?.[0] ?? null, limit + 1);
        if (relays.length > 0 || (await eventById(query, id))) return relays;
        throw notArchived();
      });
      const relays = found.slice(0, limit);
      const last = relays.at(-1);
      return {
        rows: relays.map(({ url, seenAt }) => ({ url, seen_at: seenAt })),
        next: found.length > limit && last ? [last.url] : null,
        meta: await context.meta(),
      };
    },
  });
}

function notArchived(): Problem {
  return new Problem('not-found', 'The archive holds no event with this id.', { parameter: 'id' });
}

/** A page of the events that are selected. @throws Problem */
async function eventList(
  { context, timeoutMs }: { readonly context: Context; readonly timeoutMs: number },
  selection: EventSelection | null,
  after: PlaceKey | null,
  limit: number,
): Promise<ListPage<NostrEvent>> {
  const place = after && { createdAt: after[0], id: after[1] };
  const size: PageSize = { events: limit, bytes: PAGE_BYTES, ms: timeoutMs };
  const narrow = NARROW[selection ? accessPathOf(selection) : 'time'];
  const page = await context.read(
    (query, shards) => readEvents(query, selection, place, size, shards),
    narrow,
  );
  return {
    rows: page.events,
    next: page.next && [page.next.createdAt, page.next.id],
    meta: await context.meta(partOf(page, narrow)),
  };
}

function partOf({ cut }: EventPage, narrow: string): Partial<Meta> {
  if (cut === 'time')
    return { partial: `The time was up: next_cursor goes on from here. To get more, ${narrow}.` };
  if (cut === 'bytes')
    return {
      partial: `The page has ${PAGE_BYTES} bytes of events: next_cursor goes on from here.`,
    };
  return {};
}
