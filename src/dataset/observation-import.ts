import type { Bigbrotr, Relay } from '../database/bigbrotr.ts';
import { parseRelayUrl, type RelayAddress } from '../network/url.ts';
import { observationRecords } from './observation-records.ts';
import type { Progress } from './progress.ts';
import type { EventFile } from './sources.ts';

const BATCH = 5000;

interface Pending {
  readonly id: string;
  readonly address: RelayAddress;
  readonly seenAt: number;
}

/** What became of observations. */
export interface ObservationTotals {
  sightings: number;
  /** Of relay URLs that are none, of events that are not archived, or no observations. */
  refused: number;
}

/**
 * Imports the observations of a file, apart from the sightings of the archive.
 *
 * @param done records that were imported before
 * @throws DatasetError where the file is damaged
 */
export async function importObservations(
  bigbrotr: Pick<Bigbrotr, 'relaysOf' | 'imports'>,
  file: EventFile,
  { importId, done }: { readonly importId: number; readonly done: number },
  totals: ObservationTotals,
  progress: Progress,
): Promise<void> {
  let pending: Pending[] = [];
  let records = done;
  const flush = async () => {
    const batch = pending;
    pending = [];
    const relays = await relaysByUrl(bigbrotr, batch);
    const sightings = batch.flatMap(({ id, address, seenAt }) => {
      const relay = relays.get(address.url);
      return relay ? [{ id, relayId: relay.relayId, seenAt }] : [];
    });
    const stored = await bigbrotr.imports.storeSightings(importId, sightings, records);
    totals.sightings += stored.sightings;
    totals.refused += stored.unknown;
    progress.add(batch.length);
  };
  for await (const { number, observation } of observationRecords(file)) {
    if (number <= done) continue;
    records = number;
    const parsed = observation && parseRelayUrl(observation.relay_url);
    if (observation && parsed?.ok) {
      const address = { url: parsed.url, network: parsed.network };
      pending.push({ id: observation.id, address, seenAt: observation.seen_at });
    } else totals.refused += 1;
    if (pending.length >= BATCH) await flush();
  }
  await flush();
}

async function relaysByUrl(
  bigbrotr: Pick<Bigbrotr, 'relaysOf'>,
  batch: readonly Pending[],
): Promise<Map<string, Relay>> {
  const addresses = new Map(batch.map(({ address }) => [address.url, address]));
  const relays = await bigbrotr.relaysOf([...addresses.values()]);
  return new Map(relays.map((relay) => [relay.url, relay]));
}
