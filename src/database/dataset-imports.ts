import { serializeEvent } from '../nostr/event.ts';
import type { VerifiedEvent } from '../nostr/verify.ts';
import type { Query } from './connection.ts';
import { dayGroups, dayOf } from './days.ts';
import { archivedIds } from './reading.ts';
import { daysOf, eventColumns, newKeys } from './sightings.ts';

/** The tables `imports` and `imported_quarantine`: events from files, which no relay has shown. */

/** An import that goes on, or that was completed before. */
export interface Import {
  readonly importId: number;
  /** Lines or rows that are done. */
  readonly records: number;
  /** Unix seconds; null while it goes on. */
  readonly endedAt: number | null;
  readonly figures: ImportCounts;
}

/** What became of the records of a file. */
export interface ImportCounts {
  readonly events: number;
  readonly known: number;
  readonly quarantined: number;
  readonly refused: Readonly<Record<string, number>>;
}

/** Events of a file that are stored together. */
export interface ImportBatch {
  readonly importId: number;
  /** New events, verified. */
  readonly events: readonly VerifiedEvent[];
  /** How many others are archived already. */
  readonly known: number;
  /** Refused records by reason. */
  readonly refused: Readonly<Record<string, number>>;
  /** Lines or rows of the file that are done with this batch. */
  readonly records: number;
}

/** Events for which there is no room in `imported_quarantine` are refused under this reason. */
const QUARANTINE_FULL = 'quarantine_full';
/** Limits of the quarantine for each import, in events and bytes, as for each relay. */
const MAX_QUARANTINED = 10_000;
const MAX_QUARANTINED_BYTES = 64 * 1024 * 1024;

/**
 * Begins the import of a file, or finds the one that was broken off.
 * @param sha256 of the file, in hex; null where it cannot be read twice: then it always begins anew
 */
export async function beginImport(
  query: Query,
  source: string,
  sha256: string | null,
): Promise<Import> {
  const { rows } = await query<ImportCounts & Record<string, unknown> & Omit<Import, 'figures'>>(
    `insert into imports (source, sha256) values ($1, decode($2, 'hex'))
     on conflict (sha256) do update set source = imports.source
     returning import_id as "importId", records, ended_at as "endedAt", events, known, quarantined, refused`,
    [source, sha256],
  );
  const [row] = rows;
  if (!row) throw new Error('an import that was begun is not returned');
  const { importId, records, endedAt, ...figures } = row;
  return { importId, records, endedAt, figures };
}

/** Makes an import that was completed begin again at the first record. */
export async function restartImport(query: Query, importId: number): Promise<void> {
  await query(
    `update imports set records = 0, events = 0, known = 0, quarantined = 0, refused = '{}',
         started_at = unix_now(), ended_at = null where import_id = $1`,
    [importId],
  );
}

/** Records that the end of the file was reached. */
export async function endImport(query: Query, importId: number): Promise<void> {
  await query('update imports set ended_at = unix_now() where import_id = $1', [importId]);
}

/**
 * Stores a batch and how far the file is read, all or nothing.
 *
 * @param query of a transaction
 * @param plain the events of the batch that the columns hold, sorted by id; `days` has their days
 * @param aside the others, with the reason
 */
export async function storeImported(
  query: Query,
  batch: ImportBatch,
  plain: readonly VerifiedEvent[],
  aside: readonly { readonly event: VerifiedEvent; readonly reason: string }[],
  shards: number,
): Promise<ImportCounts> {
  let events = 0;
  for (const group of dayGroups(daysOf(plain), shards)) {
    const bodies = plain.filter((event) => group.has(dayOf(event.created_at)));
    const { rows } = await query<{ events: number }>(
      'select store_imported($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as events',
      [group.days, shards > 1, [...newKeys(bodies).values()], ...eventColumns(bodies)],
    );
    events += rows[0]?.events ?? 0;
  }
  const { quarantined, full } = await setAside(query, batch.importId, aside);
  const refused = { ...batch.refused, ...(full > 0 && { [QUARANTINE_FULL]: full }) };
  const known = batch.known + (plain.length - events) + (aside.length - quarantined - full);
  await query(
    `update imports set records = $2, events = events + $3, known = known + $4, quarantined = quarantined + $5,
         refused = (
             select coalesce(jsonb_object_agg(reason, count), '{}')
             from (
                 select reason, sum(count::bigint) as count
                 from (select * from jsonb_each_text(refused) union all select * from jsonb_each_text($6::jsonb))
                     as u (reason, count)
                 group by reason
             ) s
         )
     where import_id = $1`,
    [batch.importId, batch.records, events, known, quarantined, JSON.stringify(refused)],
  );
  return { events, known, quarantined, refused };
}

/** Quarantines events as far as the import has room. @returns how many were new, and for how many there is no room */
async function setAside(
  query: Query,
  importId: number,
  aside: readonly { readonly event: VerifiedEvent; readonly reason: string }[],
): Promise<{ quarantined: number; full: number }> {
  if (aside.length === 0) return { quarantined: 0, full: 0 };
  const { rows } = await query<{ rows: number; bytes: number; held: string[] | null }>(
    `select (select count(*) from imported_quarantine where import_id = $1) as rows,
            (select coalesce(sum(octet_length(raw)), 0)::bigint from imported_quarantine where import_id = $1) as bytes,
            array(
                select encode(id, 'hex') from imported_quarantine where id = any ($2::bytea[])
                union select encode(id, 'hex') from quarantine where id = any ($2::bytea[])
            ) as held`,
    [importId, aside.map(({ event }) => Buffer.from(event.id, 'hex'))],
  );
  const used = { rows: rows[0]?.rows ?? 0, bytes: rows[0]?.bytes ?? 0 };
  const held = new Set(rows[0]?.held);
  const counts = { quarantined: 0, full: 0 };
  for (const { event, reason } of aside) {
    if (held.has(event.id)) continue;
    held.add(event.id);
    const raw = Buffer.from(serializeEvent(event));
    used.rows += 1;
    used.bytes += raw.length;
    if (used.rows > MAX_QUARANTINED || used.bytes > MAX_QUARANTINED_BYTES) {
      counts.full += 1;
      continue;
    }
    await query(
      `insert into imported_quarantine (id, import_id, created_at, reason, raw)
       values (decode($1, 'hex'), $2, $3, $4, $5) on conflict do nothing`,
      [event.id, importId, event.created_at, reason, raw],
    );
    counts.quarantined += 1;
  }
  return counts;
}

/** An observation of another archive. */
export interface ImportedSighting {
  /** Hex. */
  readonly id: string;
  readonly relayId: number;
  /** Unix seconds. */
  readonly seenAt: number;
}

/**
 * Stores observations of archived events, apart from the sightings of this archive, and how far their file is read.
 *
 * @param query of a transaction
 * @param records lines or rows of the file that are done with these
 * @returns how many were new, and how many are of events that are not archived
 */
export async function storeImportedSightings(
  query: Query,
  importId: number,
  sightings: readonly ImportedSighting[],
  records: number,
): Promise<{ readonly sightings: number; readonly unknown: number }> {
  const archived = await archivedIds(query, [...new Set(sightings.map(({ id }) => id))]);
  const known = sightings.flatMap((sighting) => {
    const event = archived.get(sighting.id);
    return event ? [{ ...sighting, day: dayOf(event.createdAt) }] : [];
  });
  const { rows } = await query<{ day: number }>(
    `insert into imported_sightings (created_day, id, relay_id, seen_at, import_id)
     select day, decode(id, 'hex'), relay_id, seen_at, $5
     from unnest($1::integer[], $2::text[], $3::integer[], $4::bigint[]) as t (day, id, relay_id, seen_at)
     order by day, id, relay_id
     on conflict do nothing
     returning created_day as day`,
    [
      known.map(({ day }) => day),
      known.map(({ id }) => id),
      known.map(({ relayId }) => relayId),
      known.map(({ seenAt }) => seenAt),
      importId,
    ],
  );
  await query('update imports set records = $2, sightings = sightings + $3 where import_id = $1', [
    ...[importId, records, rows.length],
  ]);
  const days = [...new Set(rows.map(({ day }) => day))].sort((a, b) => a - b);
  if (days.length > 0) await query('insert into journal (days) values ($1)', [days]);
  return { sightings: rows.length, unknown: sightings.length - known.length };
}
