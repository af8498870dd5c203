import { readFileSync } from 'node:fs';
import pg from 'pg';
import { WebSocket } from 'ws';
import { type NostrEvent, parseEvent } from '../../src/nostr/event.ts';
import type { Verifier } from '../../src/nostr/verify.ts';
import { projectFile } from '../support/project.ts';
import type { BenchDatabase } from './server.ts';

const BATCH = 500;
const NOW = 1_760_000_000;

export const referenceSql = () => readFileSync(projectFile('tests/bench/reference.sql'), 'utf8');

/**
 * The way of the Python original, in the language and with the signature check of ours, so that what differs is the
 * way alone: ask for a page, wait for its end, check it, insert it by one function call an event in one transaction,
 * and only then ask for the next.
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

  /** Reads the newest `count` events of a relay into the archive. */
  async visit(url: string, count: number, verifier: Verifier): Promise<void> {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    let until: number | undefined;
    for (let done = 0; done < count; ) {
      const page = await askPage(socket, until);
      const good = page.flatMap((value) => {
        const parsed = parseEvent(value);
        const event = parsed.ok ? verifier.verify(parsed.event) : null;
        return event ? [event] : [];
      });
      await this.insert(good, url);
      until = good.at(-1)?.created_at;
      done += good.length;
    }
    socket.close();
  }

  async clear(): Promise<void> {
    await this.db.query('truncate relays, events, events_relays; checkpoint');
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}

/** One REQ and its events, once EOSE has come. */
function askPage(socket: WebSocket, until: number | undefined): Promise<unknown[]> {
  const page: unknown[] = [];
  return new Promise((resolve) => {
    const onMessage = (data: Buffer) => {
      const [type, , event] = JSON.parse(data.toString()) as [string, string, unknown];
      if (type === 'EVENT') page.push(event);
      if (type !== 'EOSE') return;
      socket.off('message', onMessage);
      socket.send(JSON.stringify(['CLOSE', 'reference']));
      resolve(page);
    };
    socket.on('message', onMessage);
    socket.send(JSON.stringify(['REQ', 'reference', { until, limit: BATCH }]));
  });
}
