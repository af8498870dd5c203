import { readFileSync } from 'node:fs';
import pg from 'pg';
import { WebSocket } from 'ws';
import { type NostrEvent, parseEvent } from '../../../src/nostr/event.ts';
import type { Verifier } from '../../../src/nostr/verify.ts';
import type { Window } from '../../../src/nostr/window.ts';
import { projectFile } from '../../processes/project.ts';
import type { BenchDatabase } from './server.ts';

const BATCH = 500;
const NOW = 1_760_000_000;

export const referenceSql = () =>
  readFileSync(projectFile('tests/programs/bench/reference.sql'), 'utf8');

/**
 * The way of the Python original, in the language and with the signature check of ours, so that what differs is the
 * way alone. It proves a stretch of time by reading it twice, halves what does not fit into a page, inserts what does
 * by one function call an event in one transaction, and waits for each answer before it goes on.
 */
export class ReferenceArchive {
  readonly db: BenchDatabase;
  readonly #client: pg.Client;

  private constructor(db: BenchDatabase, client: pg.Client) {
    this.db = db;
    this.#client = client;
  }

  static async open(db: BenchDatabase): Promise<ReferenceArchive> {
    const { host, port, user, password, database } = db.config;
    const client = new pg.Client({ host, port, user, password, database });
    client.on('error', () => {});
    await client.connect();
    return new ReferenceArchive(db, client);
  }

  /** Its insert path alone. */
  async insert(events: readonly NostrEvent[], url: string): Promise<void> {
    for (let from = 0; from < events.length; from += BATCH) {
      await this.#client.query('begin');
      for (const event of events.slice(from, from + BATCH)) await this.#insertOne(event, url);
      await this.#client.query('commit');
    }
  }

  async #insertOne(event: NostrEvent, url: string): Promise<void> {
    const { id, pubkey, created_at, kind, tags, content, sig } = event;
    await this.#client.query('select insert_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)', [
      ...[id, pubkey, created_at, kind, JSON.stringify(tags), content, sig],
      ...[url, 'clearnet', NOW, NOW],
    ]);
  }

  /** Reads a stretch of a relay's history, oldest first. @returns how many events were archived */
  async visit(url: string, stretch: Window, verifier: Verifier): Promise<number> {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    let { since } = stretch;
    let archived = 0;
    for (const ends = [stretch.until]; ends.length > 0; ) {
      const until = ends.at(-1) ?? since;
      const page = await askPage(socket, { since, until, limit: BATCH });
      const oldest = page.at(-1)?.created_at ?? since;
      if (since < until && page.length > 0 && !(await endsAt(socket, since, oldest))) {
        ends.push(Math.floor((since + until) / 2));
        continue;
      }
      const good = page.flatMap((event) => checked(event, verifier) ?? []);
      await this.insert(good, url);
      archived += good.length;
      since = until + 1;
      ends.pop();
    }
    socket.close();
    return archived;
  }

  async clear(): Promise<void> {
    await this.db.query('truncate relays, events, events_relays; checkpoint');
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}

/** Whether a relay shows nothing older than this second: what it shows at that second, then below it. */
async function endsAt(socket: WebSocket, since: number, oldest: number): Promise<boolean> {
  const again = await askPage(socket, { since, until: oldest, limit: BATCH });
  if (again.at(-1)?.created_at !== oldest) return false;
  return (await askPage(socket, { since, until: oldest - 1, limit: 1 })).length === 0;
}

function checked(event: NostrEvent, verifier: Verifier): NostrEvent | null {
  const parsed = parseEvent(event);
  return parsed.ok ? verifier.verify(parsed.event) : null;
}

/** One REQ and its events, newest first, once EOSE has come. */
function askPage(socket: WebSocket, filter: Window & { limit: number }): Promise<NostrEvent[]> {
  const page: NostrEvent[] = [];
  return new Promise((resolve) => {
    const onMessage = (data: Buffer) => {
      const [type, , event] = JSON.parse(data.toString()) as [string, string, NostrEvent];
      if (type === 'EVENT') page.push(event);
      if (type !== 'EOSE') return;
      socket.off('message', onMessage);
      socket.send(JSON.stringify(['CLOSE', 'reference']));
      resolve(page);
    };
    socket.on('message', onMessage);
    socket.send(JSON.stringify(['REQ', 'reference', filter]));
  });
}
