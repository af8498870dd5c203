import { parseRelayUrl, type RelayUrl } from '../network/url.ts';
import { type IdentifiedEvent, parseEvent } from '../nostr/event.ts';
import { unixNow } from '../nostr/unix-time.ts';
import { matchesArchived, type VerifiedEvent, type Verifier } from '../nostr/verify.ts';
import type { Bigbrotr, Relay } from './bigbrotr.ts';
import type { DatedRelay } from './imports.ts';
import type { PythonArchive, PythonSighting } from './python-archive.ts';

/** The first second that a sighting can have (init.sql): 2020-01-01 UTC. */
const EARLIEST_SEEN_AT = 1_577_836_800;
const PROGRESS_MS = 2000;

/** What was imported, and what was refused, by reason. */
export interface ImportFigures {
  relays: number;
  events: number;
  sightings: number;
  quarantined: number;
  /** Relays with an invalid URL. */
  refusedRelays: number;
  /** Sightings of events that are malformed or do not verify. */
  readonly refused: Record<string, number>;
}

interface Importing {
  readonly bigbrotr: Bigbrotr;
  readonly verifier: Verifier;
  readonly filterId: number;
  readonly figures: ImportFigures;
}

/**
 * Copies relays, events and sightings of a Python archive. Every event is verified like one from a relay. Existing rows
 * stay, with the earlier time of a sighting. Writes no coverage. Idempotent.
 *
 * @param onProgress receives a line every two seconds
 * @throws DatabaseError, and the errors of the other database
 */
export async function importPythonArchive(
  source: PythonArchive,
  bigbrotr: Bigbrotr,
  verifier: Verifier,
  onProgress: (line: string) => void = () => {},
): Promise<ImportFigures> {
  const figures: ImportFigures = {
    ...{ relays: 0, events: 0, sightings: 0, quarantined: 0, refusedRelays: 0, refused: {} },
  };
  const filterId = await bigbrotr.filterId({});
  const importing = { bigbrotr, verifier, filterId, figures };
  const spellings = await importRelays(source, importing);
  let reportedMs = performance.now();
  for (const [relay, urls] of spellings)
    for (const url of urls)
      for await (const seen of source.sightings(url)) {
        await importSightings(relay, seen, importing);
        if (performance.now() - reportedMs < PROGRESS_MS) continue;
        reportedMs = performance.now();
        onProgress(importLine(figures));
      }
  return figures;
}

/** Formats the figures as one line. */
export function importLine({ refused, ...figures }: ImportFigures): string {
  const n = (value: number) => value.toLocaleString('en-US');
  const reasons = Object.entries(refused).map(([reason, count]) => `${n(count)} ${reason}`);
  return `${n(figures.relays)} relays, ${n(figures.events)} events and ${n(figures.sightings)} sightings are new; ${n(figures.quarantined)} set aside; refused: ${n(figures.refusedRelays)} relay URLs${reasons.length > 0 ? `, ${reasons.join(', ')}` : ''}`;
}

/** @returns the relays of the archive, each with its spellings in the other one */
async function importRelays(source: PythonArchive, { bigbrotr, figures }: Importing) {
  const spellings = new Map<RelayUrl, string[]>();
  const dated = new Map<RelayUrl, DatedRelay>();
  for (const { url, knownAt } of await source.relays()) {
    const parsed = parseRelayUrl(url);
    if (!parsed.ok) {
      figures.refusedRelays += 1;
      continue;
    }
    spellings.set(parsed.url, [...(spellings.get(parsed.url) ?? []), url]);
    const before = dated.get(parsed.url)?.knownAt ?? Number.POSITIVE_INFINITY;
    const { network } = parsed;
    dated.set(parsed.url, { url: parsed.url, network, knownAt: Math.min(before, knownAt) });
  }
  figures.relays = await bigbrotr.imports.insertRelays([...dated.values()]);
  const relays = await bigbrotr.relaysOf([...dated.values()]);
  return relays.map((relay) => [relay, spellings.get(relay.url) ?? []] as const);
}

async function importSightings(
  relay: Relay,
  seen: readonly PythonSighting[],
  { bigbrotr, verifier, filterId, figures }: Importing,
): Promise<void> {
  const refuse = (reason: string) => {
    figures.refused[reason] = (figures.refused[reason] ?? 0) + 1;
  };
  const seenAt = new Map<string, number>();
  const wellFormed = new Map<string, IdentifiedEvent>();
  for (const { event, seenAt: at } of seen) {
    const parsed = parseEvent(event);
    if (!parsed.ok) {
      refuse(parsed.reason);
      continue;
    }
    wellFormed.set(parsed.event.id, parsed.event);
    seenAt.set(parsed.event.id, Math.min(Math.max(at, EARLIEST_SEEN_AT), unixNow()));
  }
  const archived = await bigbrotr.archivedEvents([...wellFormed.values()]);
  const events: VerifiedEvent[] = [];
  const known: VerifiedEvent[] = [];
  const keys = new Map([...archived].map(([id, { key }]) => [id, key] as const));
  for (const event of wellFormed.values()) {
    const held = archived.get(event.id);
    const same = held ? matchesArchived(event, held.sig) : null;
    const verified = same ?? verifier.verify(event);
    if (verified) (held ? known : events).push(verified);
    else {
      refuse('bad_signature');
      seenAt.delete(event.id);
    }
  }
  if (seenAt.size === 0) return;
  const stored = await bigbrotr.store({
    ...{
      relay,
      filterId,
      events,
      known,
      keys,
      sighted: [],
      proven: [],
      holes: [],
      evidence: 'paging',
    },
    seenAt: Math.max(...seenAt.values()),
  });
  await bigbrotr.imports.setEarlierSeenAt(relay, seenAt);
  figures.events += stored.events;
  figures.sightings += stored.sightings;
  figures.quarantined += stored.quarantined;
}
