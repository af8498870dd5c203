import type { NostrEvent } from '../nostr/event.ts';
import type { ManifestFile } from './manifest.ts';
import { EventTally } from './tally.ts';

/** Compares the events of a file with what its manifest says, and with the order that files of datasets have. */
export class FileCheck {
  readonly tally = new EventTally();
  #last: Pick<NostrEvent, 'created_at' | 'id'> | null = null;

  /** @returns what is wrong with the place of an event; null: nothing */
  add(event: NostrEvent): 'repeated' | 'unsorted' | null {
    this.tally.add(event);
    const last = this.#last;
    this.#last = { created_at: event.created_at, id: event.id };
    if (last === null) return null;
    if (last.id === event.id) return 'repeated';
    const isAfter =
      event.created_at > last.created_at ||
      (event.created_at === last.created_at && event.id > last.id);
    return isAfter ? null : 'unsorted';
  }

  /** What differs from the manifest, a sentence each. */
  differences({ name, ...described }: ManifestFile): string[] {
    const { kinds, ...counts } = this.tally.counts;
    const differences = Object.entries(counts)
      .filter(([field, value]) => described[field as keyof typeof counts] !== value)
      .map(
        ([field, value]) =>
          `${name} has ${field} ${value} where the manifest says ${described[field as keyof typeof counts]}.`,
      );
    const sameKinds = JSON.stringify(kinds) === JSON.stringify(described.kinds);
    return sameKinds
      ? differences
      : [...differences, `${name} has other kinds than the manifest says.`];
  }
}

/** What is said of an event that stands in a wrong place. */
export const PLACE_FAULTS = {
  repeated: 'the event stands there twice',
  unsorted: 'the file is not sorted by created_at and id',
} as const;
