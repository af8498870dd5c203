import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Query } from '../database/connection.ts';
import { type DeletionRequest, deletionRequests } from '../database/dataset-events.ts';
import type { NostrEvent } from '../nostr/event.ts';
import { DatasetError } from './dataset-error.ts';

/** What an export leaves out on purpose. The archive itself keeps it. */

export type LeftOut = 'deleted' | 'vanished' | 'excluded_authors';
export type LeftOutCounts = Record<LeftOut, number>;

type Subject = Pick<NostrEvent, 'id' | 'pubkey' | 'kind' | 'created_at' | 'tags'>;

const DELETION = 5;
const VANISH = 62;
const GIFT_WRAP = 1059;
const HEX_64 = /^[0-9a-f]{64}$/;

export interface ExportPolicy {
  /** Why an event is left out; null: it is not. */
  leavesOut(event: Subject): LeftOut | null;
  /** Changes with everything that the answer depends on. */
  readonly digest: string;
  readonly excludedAuthorsSha256: string | null;
}

/**
 * Reads the authors to exclude: one hex key a line, comments after #.
 * @throws DatasetError for a line that is no key
 */
export function readExcludedAuthors(path: string): {
  readonly authors: ReadonlySet<string>;
  readonly sha256: string;
} {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new DatasetError(`${path} cannot be read: ${(error as Error).message}.`);
  }
  const authors = new Set<string>();
  for (const [index, line] of text.split('\n').entries()) {
    const key = line.replace(/#.*/, '').trim().toLowerCase();
    if (key === '') continue;
    if (!HEX_64.test(key))
      throw new DatasetError(
        `${path}, line ${index + 1}: ${key.slice(0, 80)} is no public key: 64 hex digits are.`,
      );
    authors.add(key);
  }
  return { authors, sha256: createHash('sha256').update(text).digest('hex') };
}

/**
 * The policy of an export.
 *
 * @param deletions whether requests of authors to delete (NIP-09) and to vanish (NIP-62) are respected: they were verified
 * when they were archived
 */
export async function readPolicy(
  query: Query,
  deletions: boolean,
  excludedAuthorsFile: string | null,
): Promise<ExportPolicy> {
  const excluded = excludedAuthorsFile === null ? null : readExcludedAuthors(excludedAuthorsFile);
  const requests = new DeletionRequests();
  if (deletions) for await (const chunk of deletionRequests(query)) requests.add(chunk);
  return {
    leavesOut: (event) =>
      excluded?.authors.has(event.pubkey) ? 'excluded_authors' : requests.verdict(event),
    digest: `${deletions ? requests.digest : '-'} ${excluded?.sha256 ?? '-'}`,
    excludedAuthorsSha256: excluded?.sha256 ?? null,
  };
}

/**
 * The requests of authors about their own events. They are kept as 128 bits of a hash each, which no two share by chance
 * (2^64 requests would make that likely).
 */
export class DeletionRequests {
  readonly #ids = new Set<string>();
  /** Latest second up to which an address is deleted, by its hash. */
  readonly #addresses = new Map<string, number>();
  readonly #vanished = new Map<string, number>();
  #sum = 0n;

  add(requests: readonly DeletionRequest[]): void {
    for (const request of requests) {
      if (request.kind === VANISH) this.#addVanish(request);
      else if (request.kind === DELETION) this.#addDeletion(request);
    }
  }

  #addVanish({ pubkey, created_at, tags }: DeletionRequest): void {
    // A request to some relays says nothing of the others.
    if (!tags.some(([name, value]) => name === 'relay' && value === 'ALL_RELAYS')) return;
    raise(this.#vanished, pubkey, created_at);
    this.#note(`vanish ${pubkey} ${created_at}`);
  }

  #addDeletion({ pubkey, created_at, tags }: DeletionRequest): void {
    for (const [name, value] of tags) {
      if (value === undefined) continue;
      if (name === 'e' && HEX_64.test(value)) {
        const hash = hashOf(pubkey, value);
        this.#ids.add(hash);
        this.#note(hash);
      } else if (name === 'a' && value.split(':')[1] === pubkey) {
        raise(this.#addresses, hashOf(pubkey, value), created_at);
        this.#note(`${value} ${created_at}`);
      }
    }
  }

  #note(text: string): void {
    this.#sum += BigInt(`0x${createHash('sha256').update(text).digest('hex').slice(0, 32)}`);
  }

  /** Of all requests, whatever their order. */
  get digest(): string {
    return (this.#sum & ((1n << 128n) - 1n)).toString(16);
  }

  /** Whether its author asked for it to be deleted. A request to delete is never deleted itself. */
  verdict(event: Subject): 'deleted' | 'vanished' | null {
    const { id, pubkey, kind, created_at, tags } = event;
    if (this.#vanished.size > 0 && kind !== VANISH) {
      // A gift wrap is signed by a key that is used once: it belongs to whom it is addressed to.
      const owner = kind === GIFT_WRAP ? tags.find(([name]) => name === 'p')?.[1] : pubkey;
      if (created_at <= (this.#vanished.get(owner ?? pubkey) ?? -1)) return 'vanished';
    }
    if (kind === DELETION) return null;
    if (this.#ids.size > 0 && this.#ids.has(hashOf(pubkey, id))) return 'deleted';
    if (this.#addresses.size === 0) return null;
    const until = this.#addresses.get(hashOf(pubkey, addressOf(event)));
    return until !== undefined && created_at <= until ? 'deleted' : null;
  }
}

function addressOf({ kind, pubkey, tags }: Subject): string {
  const isAddressable = kind >= 30_000 && kind < 40_000;
  const name = isAddressable ? (tags.find(([letter]) => letter === 'd')?.[1] ?? '') : '';
  return `${kind}:${pubkey}:${name}`;
}

function hashOf(pubkey: string, target: string): string {
  return createHash('sha256').update(pubkey).update(target).digest('hex').slice(0, 32);
}

function raise(of: Map<string, number>, key: string, second: number): void {
  of.set(key, Math.max(of.get(key) ?? -1, second));
}
