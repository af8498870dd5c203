import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import type { DatabaseConfig } from '../../src/config/load.ts';
import { type Batch, Bigbrotr, type Relay } from '../../src/database/bigbrotr.ts';
import { type NostrEvent, parseEvent } from '../../src/nostr/event.ts';
import { createVerifier, type VerifiedEvent } from '../../src/nostr/verify.ts';
import { relayAddress } from '../relay/relays.ts';
import type { TestDatabase } from './database.ts';

export const silent = pino({ level: 'silent' });

/** The configuration of a pool on a database of the tests. */
export function databaseConfig(
  { config }: Pick<TestDatabase, 'config'>,
  parts: Partial<DatabaseConfig> = {},
): DatabaseConfig {
  return { ...config, minPool: 0, maxPool: 4, commandTimeoutMs: 30_000, ...parts };
}

export function openBigbrotr(
  database: Pick<TestDatabase, 'config'>,
  parts: Partial<DatabaseConfig> = {},
): Promise<Bigbrotr> {
  return Bigbrotr.connect(databaseConfig(database, parts), silent);
}

/** The relay of that name, known to the archive. */
export async function knownRelay(bigbrotr: Bigbrotr, name: string): Promise<Relay> {
  const [relay] = await bigbrotr.relaysOf([relayAddress(`wss://${name}.example.com`)]);
  if (!relay) throw new Error(`the archive does not give back relay ${name}`);
  return relay;
}

const verifier = await createVerifier();

/** The event as verified. @throws Error for one that is not sound: the test is wrong then. */
export function verified(event: NostrEvent): VerifiedEvent {
  const parsed = parseEvent(event);
  const sound = parsed.ok ? verifier.verify(parsed.event) : null;
  if (!sound) throw new Error(`not a valid event: ${JSON.stringify(event).slice(0, 200)}`);
  return sound;
}

/** A batch that holds nothing but what is given. */
export function batchOf(
  parts: Pick<Batch, 'relay' | 'filterId'> & {
    readonly events?: readonly NostrEvent[];
    readonly known?: readonly NostrEvent[];
  } & Partial<Omit<Batch, 'events' | 'known'>>,
): Batch {
  const { events = [], known = [], ...rest } = parts;
  return {
    seenAt: 1_700_000_000,
    sighted: [],
    proven: [],
    holes: [],
    evidence: 'paging',
    ...rest,
    events: events.map(verified),
    known: known.map(verified),
  };
}

export interface Gate {
  /** Resolves when this number of sessions of the database wait for a lock. */
  waiting(sessions: number): Promise<void>;
  /** Lets everybody through, for good. */
  open(): Promise<void>;
}

const GATE = 17;

/** Makes every transaction wait that inserts into the table, right before its first row, until the gate is opened. */
export async function closeGate(
  { config }: Pick<TestDatabase, 'config'>,
  table: string,
): Promise<Gate> {
  const keeper = new pg.Client(config);
  keeper.on('error', () => {}); // its server may be crashed by the test
  await keeper.connect();
  onTestFinished(async () => {
    await keeper.query('drop function if exists wait_at_gate cascade').catch(() => {});
    await keeper.end();
  });
  await keeper.query(
    `create function wait_at_gate() returns trigger language plpgsql as $$ begin
       perform pg_advisory_xact_lock_shared(${GATE});
       return new;
     end $$`,
  );
  await keeper.query(
    `create trigger wait_at_gate before insert on ${table} for each row execute function wait_at_gate()`,
  );
  await keeper.query(`select pg_advisory_lock(${GATE})`);
  const waitingNow = async () => {
    const { rowCount } = await keeper.query(
      "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
    );
    return rowCount ?? 0;
  };
  return {
    waiting: async (sessions) => {
      const end = performance.now() + 30_000;
      while ((await waitingNow()) < sessions) {
        if (performance.now() > end)
          throw new Error(`${sessions} sessions were to wait, and do not`);
        await sleep(10);
      }
    },
    open: async () => {
      await keeper.query(`select pg_advisory_unlock(${GATE})`);
    },
  };
}
