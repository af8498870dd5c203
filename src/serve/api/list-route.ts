import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { listQuery, listResponsesOf, MAX_LIMIT, type Meta, pageLimit } from './answer.ts';
import type { Context } from './context.ts';
import { decodeCursor, encodeCursor, questionTag } from './cursor.ts';
import { contentTypeOf, csvLine, type Format, formatOf } from './format.ts';

/** Routes that answer with a list: pages of JSON, or all of it as NDJSON or CSV. */

/** Rows of a page that is streamed. */
const STREAMED_ROWS = 200;

/** Rows, and where the next page begins. */
export interface ListPage<Row> {
  readonly rows: readonly Row[];
  /** The key of the last row, in the form of the list's cursor; null: there are no more. */
  readonly next: readonly unknown[] | null;
  readonly meta: Meta;
}

export interface ListRoute<
  Params extends z.ZodObject,
  Asked extends z.ZodObject,
  Row extends z.ZodObject,
  Key extends z.ZodType,
> {
  readonly url: string;
  readonly tag: string;
  readonly summary: string;
  readonly description: string;
  /** The path of an example. */
  readonly example: string;
  readonly params: Params;
  /** Its own parameters. */
  readonly query: Asked;
  readonly row: Row;
  /** The values of a cursor. */
  readonly key: Key;
  /** For how long caches may give the answer again, in seconds. */
  readonly maxAge: number;
  read(
    asked: { readonly params: z.output<Params>; readonly query: z.output<Asked> },
    page: { readonly after: z.output<Key> | null; readonly limit: number },
  ): Promise<ListPage<z.output<Row>>>;
}

type PageQuery = z.output<typeof listQuery>;

/** Adds a list to the API. */
export function addListRoute<
  Params extends z.ZodObject,
  Asked extends z.ZodObject,
  Row extends z.ZodObject,
  Key extends z.ZodType,
>(api: FastifyInstance, { streams }: Context, route: ListRoute<Params, Asked, Row, Key>): void {
  const { url, tag, summary, description, example, params, row, maxAge } = route;
  const querystring = listQuery.extend(route.query.shape);
  const schema = { tags: [tag], summary, description, params, querystring };
  api.get(
    url,
    {
      schema: { ...schema, response: listResponsesOf(row) },
      config: { example, maxAge },
    },
    async (request, reply) => {
      const query = request.query as PageQuery & z.output<Asked>;
      const format = formatOf(query.format, request.headers.accept);
      const question = questionTag(pathOf(request), query);
      const after = query.cursor ? decodeCursor(query.cursor, question, route.key) : null;
      const asked = { params: request.params as z.output<Params>, query };
      reply.header('vary', 'accept, accept-encoding');
      if (format !== 'json') {
        const read = (from: z.output<Key> | null, limit: number) =>
          route.read(asked, { after: from, limit });
        const rows = streamedRows({ route, read, after, limit: query.limit ?? Infinity });
        return sendStream(reply, streams, format, await rows);
      }
      const page = await route.read(asked, { after, limit: pageLimit(query.limit) });
      const next_cursor = page.next && encodeCursor(question, page.next);
      return { data: page.rows, next_cursor, meta: page.meta };
    },
  );
}

function pathOf(request: FastifyRequest): string {
  return `${request.routeOptions.url} ${JSON.stringify(request.params)}`;
}

/** The first page, and a way to the texts of all rows. */
interface StreamedRows {
  readonly meta: Meta;
  readonly columns: readonly string[];
  readonly pages: (signal: AbortSignal) => AsyncIterable<readonly Record<string, unknown>[]>;
}

interface Streamed<Row extends z.ZodObject, Key extends z.ZodType> {
  readonly route: { readonly row: Row; readonly key: Key };
  readonly read: (after: z.output<Key> | null, limit: number) => Promise<ListPage<z.output<Row>>>;
  readonly after: z.output<Key> | null;
  /** Rows in all. */
  readonly limit: number;
}

/** Reads the first page, so that what is wrong with the question is told before anything is sent. */
async function streamedRows<Row extends z.ZodObject, Key extends z.ZodType>({
  route,
  read,
  after,
  limit,
}: Streamed<Row, Key>): Promise<StreamedRows> {
  const size = (left: number) => Math.min(left, STREAMED_ROWS, MAX_LIMIT);
  const first = await read(after, size(limit));
  async function* pages(signal: AbortSignal) {
    let left = limit;
    for (let page = first; ; ) {
      yield page.rows as readonly Record<string, unknown>[];
      left -= page.rows.length;
      if (page.next === null || left <= 0 || signal.aborted) return;
      page = await read(route.key.parse(page.next), size(left));
    }
  }
  return { meta: first.meta, columns: Object.keys(route.row.shape), pages };
}

/** The meta data go into headers: rows have no room for them. */
function sendStream(
  reply: FastifyReply,
  streams: Context['streams'],
  format: Exclude<Format, 'json'>,
  { meta, columns, pages }: StreamedRows,
): FastifyReply {
  const { relays, complete, share } = meta.coverage;
  reply.header('archive-as-of', meta.as_of);
  reply.header('archive-coverage', `relays=${relays}, complete=${complete}, share=${share ?? ''}`);
  reply.header('cache-control', 'no-store');
  const stream: Readable = streams.start(async function* (signal) {
    if (format === 'csv') yield csvLine(columns);
    for await (const rows of pages(signal)) {
      const lines = rows.map((row) =>
        format === 'csv' ? csvLine(columns.map((name) => row[name])) : `${JSON.stringify(row)}\n`,
      );
      if (lines.length > 0) yield lines.join('');
    }
  });
  return reply.type(contentTypeOf(format)).send(stream);
}
