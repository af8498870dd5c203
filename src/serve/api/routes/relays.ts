import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { coverageStrips, type RelayFacts } from '../../../database/relay-table.ts';
import { flag, wholeNumber } from '../answer.ts';
import type { Context } from '../context.ts';
import { addListRoute } from '../list-route.ts';
import { asRelayRow, relayRow } from '../relay-row.ts';

/** What relays are sorted by, each with its value; without a value a relay comes last. */
const SORTS = {
  url: () => null,
  rtt_open: (relay: RelayFacts) => relay.rttOpen,
  rtt_read: (relay: RelayFacts) => relay.rttRead,
  share: (relay: RelayFacts) => relay.share,
  checked_at: (relay: RelayFacts) => relay.checkedAt,
  visited_at: (relay: RelayFacts) => relay.visitedAt,
  added_at: (relay: RelayFacts) => relay.addedAt,
} as const;

/** Parts of a coverage strip, at most. */
const MAX_STRIP = 120;

type Sort = keyof typeof SORTS;
const sorts = Object.keys(SORTS) as [Sort, ...Sort[]];

const query = z.object({
  network: z.enum(['clearnet', 'tor', 'i2p', 'loki']).optional(),
  state: z.enum(['up', 'down', 'unknown']).optional(),
  country: z
    .string()
    .regex(/^[A-Za-z]{2}$/, 'must be two letters (ISO 3166-1)')
    .optional(),
  software: z.string().max(200).optional().describe('A part of the name of the software.'),
  nip: wholeNumber(0, 9999).optional().describe('Relays that claim to support this NIP.'),
  readable: flag.optional(),
  search: z.string().max(255).optional().describe('A part of the URL.'),
  sort: z.enum(sorts).optional().describe('Ascending, relays without that value last.'),
  desc: flag.optional().describe('Descending instead.'),
  strip: wholeNumber(1, MAX_STRIP)
    .optional()
    .describe('Adds to each relay how much is proven of so many equal parts of the time.'),
});

export const listedRelay = relayRow.extend({
  strip: z
    .array(z.number().nullable())
    .optional()
    .describe('By part of the time since Nostr began, oldest first: the share that is proven.'),
});

type Asked = z.output<typeof query>;
const key = z.tuple([z.number().nullable(), z.string()]);
type Key = z.output<typeof key>;

/** GET /v1/relays. */
export function addRelayListRoute(api: FastifyInstance, context: Context): void {
  addListRoute(api, context, {
    url: '/v1/relays',
    tag: 'relays',
    summary: 'All relays',
    description:
      'With their state, what their latest checks found, and how complete the archive of each is.',
    example: '/v1/relays?state=up&sort=rtt_read&limit=20',
    params: z.object({}),
    query,
    row: listedRelay,
    key,
    maxAge: 10,
    read: async ({ query: asked }, { after, limit }) => {
      const { relays, asOf } = await context.relays();
      const compare = comparing(asked.desc ?? false);
      const keyOf = (relay: RelayFacts): Key => [SORTS[asked.sort ?? 'url'](relay), relay.url];
      const found = relays
        .filter((relay) => isAsked(relay, asked))
        .map((relay) => ({ relay, key: keyOf(relay) }))
        .filter((one) => after === null || compare(one.key, after) > 0)
        .sort((a, b) => compare(a.key, b.key));
      const page = found.slice(0, limit);
      const urls = page.map(({ relay }) => relay.url);
      const strips = await stripsOf(context, urls, asked.strip);
      return {
        rows: page.map(({ relay }) => ({ ...asRelayRow(relay), ...strips(relay.url) })),
        next: found.length > limit ? (page.at(-1)?.key ?? null) : null,
        meta: await context.meta({ as_of: asOf }),
      };
    },
  });
}

/** Gives the strip of a relay, where strips are asked for and it was visited. */
async function stripsOf(
  context: Context,
  urls: readonly string[],
  parts: number | undefined,
): Promise<(url: string) => { readonly strip?: (number | null)[] }> {
  if (parts === undefined) return () => ({});
  const strips = await context.read(
    (query) => coverageStrips(query, urls, parts),
    'ask for fewer relays or parts',
  );
  return (url) => {
    const strip = strips.get(url);
    return strip ? { strip } : {};
  };
}

/** By value, then by URL. */
function comparing(isDescending: boolean): (a: Key, b: Key) => number {
  const sign = isDescending ? -1 : 1;
  return ([a, aUrl], [b, bUrl]) => {
    if (a === null || b === null) {
      if (a !== b) return a === null ? 1 : -1;
      return aUrl < bUrl ? -sign : aUrl > bUrl ? sign : 0;
    }
    if (a !== b) return a < b ? -sign : sign;
    return aUrl < bUrl ? -sign : aUrl > bUrl ? sign : 0;
  };
}

function isAsked(relay: RelayFacts, asked: Asked): boolean {
  const { network, state, country, software, nip, readable, search } = asked;
  const includes = (text: string | null, part: string) =>
    text?.toLowerCase().includes(part.toLowerCase()) ?? false;
  return (
    (network === undefined || relay.network === network) &&
    (state === undefined || relay.state === state) &&
    (country === undefined || relay.country === country.toUpperCase()) &&
    (software === undefined || includes(relay.software, software)) &&
    (nip === undefined || (relay.supportedNips?.includes(nip) ?? false)) &&
    (readable === undefined || (relay.readable ?? false) === readable) &&
    (search === undefined || includes(relay.url, search))
  );
}
