import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import type { TestDatabase } from './database.ts';

/** An archive that answers, wherever its server is now. */
export type Archive = Pick<TestDatabase, 'query'>;

/** What one relay holds that is valid, told apart from the archive: what must be there in the end. */
export interface Held {
  readonly url: string;
  readonly events: readonly NostrEvent[];
}

/** Hex ids of the events that were seen on a relay. */
export async function seenOn(archive: Archive, url: string): Promise<Set<string>> {
  const rows = await archive.query<{ id: string }>(
    `select encode(event_id, 'hex') as id from events_relays where relay_url = $1`,
    [url],
  );
  return new Set(rows.map(({ id }) => id));
}

/** Events of the model that lie in covered time and are not stored with their relay: each would be a lie of coverage. */
export async function claimedAndMissing(
  archive: Archive,
  { url, events }: Held,
): Promise<string[]> {
  const stretches = await archive.query<{ since: number; until: number }>(
    `select lower(stretch)::float as since, upper(stretch)::float - 1 as until
     from coverage join relays using (relay_id), unnest(covered) stretch where url = $1`,
    [url],
  );
  const stored = await seenOn(archive, url);
  return events
    .filter(({ created_at: at }) =>
      stretches.some(({ since, until }) => since <= at && at <= until),
    )
    .filter(({ id }) => !stored.has(id))
    .map(({ id }) => id);
}

/** Asserts that coverage claims nothing that is not stored. */
export async function expectHonest(archive: Archive, model: readonly Held[]): Promise<void> {
  for (const held of model)
    expect(await claimedAndMissing(archive, held), `claimed of ${held.url}`).toEqual([]);
}

/** Asserts that the archive is the model: nothing lost, nothing twice, nothing else, all of it proven. */
export async function expectWhole(archive: Archive, model: readonly Held[]): Promise<void> {
  for (const { url, events } of model) {
    const stored = await seenOn(archive, url);
    expect({
      url,
      lost: events.filter(({ id }) => !stored.has(id)).length,
      stored: stored.size,
    }).toEqual({ url, lost: 0, stored: events.length });
  }
  const ids = new Set(model.flatMap(({ events }) => events.map(({ id }) => id)));
  const [counts] = await archive.query(
    `select (select count(*)::int from events) as events, (select count(*)::int from sightings) as sightings,
            count_orphan_sightings()::int as orphans,
            (select coalesce(sum(gaps), 0)::int from relay_coverage
             where relay_url = any ($1)) as gaps`,
    [model.map(({ url }) => url)],
  );
  const sightings = model.reduce((sum, { events }) => sum + events.length, 0);
  expect(counts).toEqual({ events: ids.size, sightings, orphans: 0, gaps: 0 });
  await expectHonest(archive, model);
}

/** Resolves when nobody but us is connected to the database: what a process that was killed had open is undone. */
export function untilAlone(archive: Archive): Promise<void> {
  return untilNoOther(archive, 'true');
}

/** Resolves when what others have sent to PostgreSQL is done, or undone; they may stay connected. */
export function untilQuiet(archive: Archive): Promise<void> {
  return untilNoOther(archive, "state <> 'idle'");
}

/** @param which a condition on `pg_stat_activity` */
async function untilNoOther(archive: Archive, which: string): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const others = await archive.query(
      `select from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
           and ${which}`,
    );
    if (others.length === 0) return;
    if (tries > 500)
      throw new Error(`what was killed still has connections to the database (${which})`);
    await sleep(10);
  }
}
