import { ArchiveReader } from '../../../src/database/archive-reader.ts';
import { authorFigures, currentEvent } from '../../../src/database/author-details.ts';
import type { Query } from '../../../src/database/connection.ts';
import { eventById } from '../../../src/database/event-pages.ts';
import { type Stat, statPage } from '../../../src/database/stat-pages.ts';
import {
  type ArchiveFilter,
  readEvents,
  selectionOf,
} from '../../../src/serve/query/event-query.ts';
import { silent } from './pipeline.ts';
import type { BenchDatabase } from './server.ts';

/** The questions of the bench: each as a path of the API, and as the same statements without it. */
export interface Question {
  readonly name: string;
  readonly path: (place: number) => string;
  readonly sql: (query: Query, place: number) => Promise<unknown>;
}

/** Ids and authors that are asked for in turn. */
const SAMPLED = 500;
const PAGE = { events: 101, bytes: 4 * 1024 * 1024, ms: 10_000 };
const FIGURES: readonly Stat[] = ['days', 'kinds', 'day_kinds', 'authors', 'replication'];

export async function questionsOf(db: BenchDatabase): Promise<Question[]> {
  const rows = await db.query<{ id: string; pubkey: string; tag: string }>(
    `select encode(id, 'hex') as id, encode(pubkey, 'hex') as pubkey, tags #>> '{0,1}' as tag
     from events tablesample bernoulli (20) limit ${SAMPLED}`,
  );
  const at = (place: number) => rows[place % rows.length] as (typeof rows)[number];
  const page = (query: Query, filter: ArchiveFilter) =>
    readEvents(query, selectionOf(filter), null, PAGE, 1);
  return [
    {
      name: 'event by id',
      path: (place) => `/v1/events/${at(place).id}`,
      sql: (query, place) => eventById(query, at(place).id),
    },
    {
      name: "an author's page",
      path: (place) => `/v1/events?authors=${at(place).pubkey}`,
      sql: (query, place) => page(query, { authors: [at(place).pubkey] }),
    },
    {
      name: "a tag's page",
      path: (place) => `/v1/events?tag.e=${at(place).tag}`,
      sql: (query, place) => page(query, { '#e': [at(place).tag] }),
    },
    {
      name: 'an author',
      path: (place) => `/v1/authors/${at(place).pubkey}`,
      sql: async (query, place) => {
        const { pubkey } = at(place);
        await authorFigures(query, pubkey);
        await currentEvent(query, pubkey, 0);
        await currentEvent(query, pubkey, 10_002);
      },
    },
    ...FIGURES.map((stat) => ({
      name: `figures: ${stat}`,
      path: () => `/v1/stats/${stat.replace('_', '-')}?limit=100`,
      sql: (query: Query) => statPage(query, stat, {}, null, 101),
    })),
  ];
}

/** The same statements over a pool as large as that of the API. */
export function readerOf(db: BenchDatabase): Promise<ArchiveReader> {
  return ArchiveReader.connect({ ...db.config, minPool: 2, maxPool: 10 }, silent);
}
