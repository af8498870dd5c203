import pg from 'pg';

/**
 * The database of an archive of Bigbrotr for Python: release 6.6.9 names its tables `relay`, `event` and
 * `event_relay`, releases before it `relays`, `events` and `events_relays`. It is only read.
 */

/** A row of its table of relays; `knownAt` in Unix seconds. */
export interface PythonRelay {
  readonly url: string;
  readonly knownAt: number;
}

/** An event as it is stored there, and when it was seen on the requested relay. */
export interface PythonSighting {
  /** Not checked: any field may be null (LilBrotr keeps no tags, content and signature). */
  readonly event: Readonly<Record<string, unknown>>;
  /** Unix seconds. */
  readonly seenAt: number;
}

/** There is no archive of the Python original. The message names the expected tables. */
export class PythonArchiveError extends Error {
  override readonly name = 'PythonArchiveError';
}

interface Tables {
  readonly relays: string;
  readonly events: string;
  readonly sightings: string;
  /** The column with the time at which a relay was first known. */
  readonly knownAt: string;
}

const RELEASES: readonly (readonly [relays: string, events: string, sightings: string])[] = [
  ['relay', 'event', 'event_relay'],
  ['relays', 'events', 'events_relays'],
];
/** Sightings fetched at a time. */
const FETCH = 500;

export class PythonArchive {
  readonly #client: pg.Client;
  readonly #tables: Tables;

  private constructor(client: pg.Client, tables: Tables) {
    this.#client = client;
    this.#tables = tables;
  }

  /**
   * Connects and begins a transaction, so that everything is read as of one moment.
   *
   * @param connection a URL of libpq's form; a password may come from PGPASSWORD or ~/.pgpass
   * @throws PythonArchiveError when it cannot be reached, or holds no such archive
   */
  static async open(connection: string): Promise<PythonArchive> {
    const client = new pg.Client({ connectionString: connection });
    client.on('error', () => {}); // the next query reports it
    try {
      await client.connect();
      await client.query('begin transaction isolation level repeatable read, read only');
      return new PythonArchive(client, await tablesOf(client));
    } catch (error) {
      await client.end().catch(() => {});
      if (error instanceof PythonArchiveError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new PythonArchiveError(`The Python archive cannot be read: ${reason}.`);
    }
  }

  async relays(): Promise<PythonRelay[]> {
    const { relays, knownAt } = this.#tables;
    const { rows } = await this.#client.query<{ url: string; known_at: string }>(
      `select url, ${knownAt} as known_at from ${relays} order by url`,
    );
    return rows.map(({ url, known_at }) => ({ url, knownAt: Number(known_at) }));
  }

  /** The events that were seen on a relay, some hundreds at a time. */
  async *sightings(url: string): AsyncGenerator<PythonSighting[]> {
    const { events, sightings } = this.#tables;
    const client = this.#client;
    const query = client.escapeLiteral(url);
    await client.query(
      `declare seen no scroll cursor for
       select e.id, e.pubkey, e.created_at, e.kind, e.tags, e.content, e.sig, s.seen_at
       from ${sightings} s join ${events} e on e.id = s.event_id
       where s.relay_url = ${query}`,
    );
    for (;;) {
      const { rows } = await client.query(`fetch ${FETCH} from seen`);
      if (rows.length === 0) break;
      yield rows.map(sightingOf);
    }
    await client.query('close seen');
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}

async function tablesOf(client: pg.Client): Promise<Tables> {
  const { rows } = await client.query<{ table_name: string; column_name: string }>(
    'select table_name, column_name from information_schema.columns where table_schema = current_schema()',
  );
  const has = (table: string, column: string) =>
    rows.some(({ table_name, column_name }) => table_name === table && column_name === column);
  for (const [relays, events, sightings] of RELEASES) {
    // The archive of this project has a view events_relays too; its relays have a key of their own.
    const isPython = has(sightings, 'event_id') && has(relays, 'url') && !has(relays, 'relay_id');
    if (!isPython || !has(events, 'content')) continue;
    const knownAt = has(relays, 'discovered_at') ? 'discovered_at' : 'inserted_at';
    return { relays, events, sightings, knownAt };
  }
  throw new PythonArchiveError(
    'This database holds no archive of Bigbrotr for Python: it has neither relay, event and event_relay (release 6.6.9) nor relays, events and events_relays.',
  );
}

function sightingOf(row: Record<string, unknown>): PythonSighting {
  const event = {
    id: hexOf(row.id),
    pubkey: hexOf(row.pubkey),
    created_at: Number(row.created_at),
    kind: row.kind,
    tags: row.tags,
    content: row.content,
    sig: hexOf(row.sig),
  };
  return { event, seenAt: Number(row.seen_at) };
}

/** Ids are `bytea`, and in the first releases text in hex. */
function hexOf(value: unknown): unknown {
  return Buffer.isBuffer(value) ? value.toString('hex') : value;
}
