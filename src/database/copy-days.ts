import type pg from 'pg';
import type { Logger } from 'pino';
import { DatabaseError } from './error.ts';

/**
 * Copies events and sightings to the tables with `created_day`, before the migration that puts these in the place of the
 * old ones (`copy_days_step` of 0015_days-tables). Each step is a transaction: what is killed goes on where it was.
 */

/** The migration that makes the new tables. */
const DAYS_TABLES = '_days-tables';
/** The migration that follows: alone it does everything in one transaction. */
const DAYS = '_days';

export interface CopyOptions {
  readonly log: Logger;
  /** Archives whose events and sightings take at least this many bytes are copied in steps. */
  readonly inStepsFrom: number;
  /** Blocks of the old table that a step copies. */
  readonly blocksAStep: number;
  /** Free bytes of the disk of PostgreSQL; null: not known. */
  readonly freeBytes: () => Promise<number | null>;
}

export const COPY_DEFAULTS = {
  inStepsFrom: 512 * 1024 * 1024,
  /** 128 MB. */
  blocksAStep: 16_384,
  freeBytes: async () => null,
};

const GB = 1e9;
const PROGRESS_MS = 10_000;
const MILLION = 1e6;
/** A sighting grows by four bytes and its alignment in the table. */
const GROWTH = { events: 1.03, sightings: 1.12 };

/** Bytes of the old tables; 0 where events have days already. */
export async function bytesToCopy(client: pg.ClientBase): Promise<number> {
  const { events, sightings } = await sizesOf(client);
  return events + sightings;
}

type Sizes = { events: number; sightings: number; copied: number };

async function sizesOf(client: pg.ClientBase): Promise<Sizes> {
  const { rows } = await client.query<Record<keyof Sizes, string>>(
    `select pg_total_relation_size('events') as events, pg_total_relation_size('sightings') as sightings,
            coalesce(pg_total_relation_size(to_regclass('events_with_days')), 0)
                + coalesce(pg_total_relation_size(to_regclass('sightings_with_days')), 0) as copied
     where not exists (
         select from pg_attribute where attrelid = 'events'::regclass and attname = 'created_day'
     )`,
  );
  const { events = '0', sightings = '0', copied = '0' } = rows[0] ?? {};
  return { events: Number(events), sightings: Number(sightings), copied: Number(copied) };
}

/** @throws DatabaseError if the disk has no room for the copies */
export async function requireRoom(
  client: pg.ClientBase,
  { log, freeBytes }: CopyOptions,
): Promise<void> {
  const { events, sightings, copied } = await sizesOf(client);
  const all = events * GROWTH.events + sightings * GROWTH.sightings;
  const needed = Math.max(0, all - copied);
  const free = await freeBytes();
  const inGb = (bytes: number) => Math.ceil((bytes / GB) * 10) / 10;
  if (free !== null && free < needed)
    throw new DatabaseError(
      `The archive must be migrated to this version, which copies events and sightings: that needs ${inGb(needed)} GB on the disk of PostgreSQL, and ${Math.floor((free / GB) * 10) / 10} GB are free. Free ${inGb(needed - free)} GB more and start again; the archive is as it was.`,
      '53100',
      true,
      null,
    );
  log.warn(
    { neededGb: inGb(needed), ...(free !== null && { freeGb: inGb(free) }) },
    'events and sightings are copied to tables with days; until that is done nothing is archived, and the disk needs this much more room',
  );
}

interface Step {
  readonly step: number;
  readonly relation: 'events' | 'sightings';
  /** Null: rows are copied. */
  readonly command: string | null;
  /** Seconds for a million rows, about. */
  readonly weight: number;
  readonly blocks: number;
  readonly next_block: number;
  readonly rows: number;
  readonly is_done: boolean;
}

/**
 * Copies until nothing is left, and logs how far it is.
 * @throws an error of the database; everything that a step has copied stays
 */
export async function copyDays(client: pg.ClientBase, options: CopyOptions): Promise<void> {
  const progress = new Progress(options.log);
  for (;;) {
    progress.tell(await stepsOf(client));
    const { rows } = await client.query<{ more: boolean }>('select copy_days_step($1) as more', [
      options.blocksAStep,
    ]);
    if (rows[0]?.more !== true) return;
  }
}

async function stepsOf(client: pg.ClientBase): Promise<Step[]> {
  const { rows } = await client.query<Step>(
    `select step, relation, command, weight, next_block::float8, is_done,
            (pg_relation_size(relation::regclass) / current_setting('block_size')::integer)::float8 as blocks,
            estimated_rows(relation::regclass)::float8 as rows
     from days_copy order by step`,
  );
  return rows;
}

/** Logs the step that begins, and every ten seconds how many rows are copied and how many minutes are left. */
class Progress {
  readonly #log: Logger;
  readonly #startedMs = performance.now();
  /** Part of the work that was done before this process began. */
  #before: number | null = null;
  #step = 0;
  #toldMs = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  tell(steps: readonly Step[]): void {
    const next = steps.find(({ is_done }) => !is_done);
    const weights = steps.map(({ weight, rows }) => (weight * rows) / MILLION);
    const all = Math.max(sum(weights), Number.MIN_VALUE);
    const done = sum(steps.map((step, index) => (weights[index] ?? 0) * shareOf(step))) / all;
    this.#before ??= done;
    const now = performance.now();
    if (!next || (next.step === this.#step && now - this.#toldMs < PROGRESS_MS)) return;
    this.#step = next.step;
    this.#toldMs = now;
    const minutes = (now - this.#startedMs) / 60_000;
    const speed = (done - this.#before) / minutes;
    this.#log.info(
      {
        step: `${next.step} of ${steps.length}`,
        what: next.command ?? `rows of ${next.relation}`,
        rows: Math.round(next.rows * (next.command === null ? shareOf(next) : 1)),
        ofRows: Math.round(next.rows),
        ...(speed > 0 && { minutesLeft: Math.ceil((1 - done) / speed) }),
      },
      'events and sightings are being copied',
    );
  }
}

function shareOf({ is_done, next_block, blocks }: Step): number {
  return is_done ? 1 : Math.min(1, next_block / Math.max(blocks, 1));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** How many of these pending migrations, in their order, are applied before the tables are copied. */
export function countBeforeCopy(pending: readonly string[]): number {
  const at = pending.findIndex((name) => name.endsWith(DAYS_TABLES));
  return at < 0 ? 0 : at + 1;
}

/** Whether the copying is due or under way: the migration that ends it is pending. */
export function isCopyPending(pending: readonly string[]): boolean {
  return pending.some((name) => name.endsWith(DAYS));
}
