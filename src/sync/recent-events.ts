import type { IdentifiedEvent } from '../nostr/event.ts';
import type { ReceivedEvent } from '../nostr/event-text.ts';
import type { VerifiedEvent } from '../nostr/verify.ts';

/** What this process knows of an event with a certain id and signature. */
export interface Recent {
  /** Whether its signature was verified. */
  readonly isVerified: boolean;
  /** `events.event_key` in decimal if the archive holds the event, else null. */
  readonly key: string | null;
  /** The batch that is about to verify and store it (`nextBatch`); 0 for none. */
  readonly owner: number;
}

const UNKNOWN: Recent = { isVerified: false, key: null, owner: 0 };

/** 12 MB: the events of several seconds, whichever relays they come from. */
const BUCKETS = 2 ** 14;
/** Entries of a bucket; of a full one the entry that was made first is replaced. */
const WAYS = 6;

/** Words of 32 bits: of the head of the memory, of the head of a bucket (lock, next entry to replace), of an entry. */
const HEAD_WORDS = 2;
const BUCKET_HEAD_WORDS = 2;
const ID_WORDS = 8;
const COPY_WORDS = 24;
/** An entry: key (two words, 0 for none), owner, whether it is verified, id, signature. */
const [OWNER, VERIFIED, COPY] = [2, 3, 4];
const ENTRY_WORDS = COPY + COPY_WORDS;
const BUCKET_WORDS = BUCKET_HEAD_WORDS + WAYS * ENTRY_WORDS;
const WORD_BYTES = Int32Array.BYTES_PER_ELEMENT;

/** A lock that stays taken for as many tries belongs to a thread that died within it: the bucket is left alone. */
const MAX_LOCK_TRIES = 10_000;
/** Interval at which a change by another thread is looked for, in milliseconds. */
const POLL_MS = 10;

/**
 * Events that the visits of a process have seen lately, in memory that its threads share: which were verified, which are
 * archived, and which batch is about to store one. An entry is found by id and signature together, since a copy with
 * another signature has to be verified itself. It is a cache: an entry may be replaced at any time, and a key may be of an
 * event that was deleted since.
 */
export class RecentEvents {
  readonly #words: Int32Array;
  readonly #keys: BigInt64Array;
  readonly #buckets: number;
  /** Id and signature of the event that is looked for, as bytes and as words. */
  readonly #copy = Buffer.from(new ArrayBuffer(COPY_WORDS * WORD_BYTES));
  readonly #copyWords = new Int32Array(this.#copy.buffer, 0, COPY_WORDS);
  #waiting = new Set<() => void>();

  /** @param memory of `allocate`; of its own unless given */
  constructor(memory: SharedArrayBuffer = RecentEvents.allocate()) {
    this.#words = new Int32Array(memory);
    this.#keys = new BigInt64Array(memory);
    this.#buckets = (this.#words.length - HEAD_WORDS) / BUCKET_WORDS;
  }

  /** Memory for all threads of a process. @param buckets a power of two, of six entries each */
  static allocate(buckets = BUCKETS): SharedArrayBuffer {
    return new SharedArrayBuffer((HEAD_WORDS + buckets * BUCKET_WORDS) * WORD_BYTES);
  }

  /** A number for a batch, higher than those that any thread was given before. */
  nextBatch(): number {
    return Atomics.add(this.#words, 0, 1) + 1;
  }

  /** What is known of the event, by its id and its signature. */
  find(event: ReceivedEvent): Recent {
    const bucket = this.#lock(event);
    if (bucket === null) return UNKNOWN;
    const entry = this.#entryIn(bucket);
    const found = entry === null ? UNKNOWN : this.#read(entry);
    this.#unlock(bucket);
    return found;
  }

  /**
   * Makes a batch the owner of an event that has none, or another one.
   * @param takesOver whether it becomes the owner even if an earlier batch is
   * @returns the owner now, 0 if there is no room for an entry
   */
  claim(event: IdentifiedEvent, batch: number, takesOver = false): number {
    const bucket = this.#lock(event);
    if (bucket === null) return 0;
    const entry = this.#entryIn(bucket) ?? this.#newEntry(bucket);
    const owner = this.#words[entry + OWNER] ?? 0;
    const isTaken = owner !== 0 && owner < batch && !takesOver;
    if (!isTaken) this.#words[entry + OWNER] = batch;
    this.#unlock(bucket);
    return isTaken ? owner : batch;
  }

  /** Ends the ownership of a batch, if it has it. */
  release(event: IdentifiedEvent, batch: number): void {
    this.#change(event, false, (entry) => {
      if (this.#words[entry + OWNER] === batch) this.#words[entry + OWNER] = 0;
    });
  }

  /** Notes that the signature is valid. */
  noteVerified(event: VerifiedEvent): void {
    this.#change(event, true, (entry) => {
      this.#words[entry + VERIFIED] = 1;
    });
  }

  /** Notes that the archive holds the event; it has no owner from then on. @param key `events.event_key` in decimal */
  noteArchived(event: VerifiedEvent, key: string): void {
    this.#change(event, true, (entry) => {
      this.#words[entry + VERIFIED] = 1;
      this.#words[entry + OWNER] = 0;
      this.#keys[entry / 2] = BigInt(key);
    });
  }

  /** Forgets the key of an event that may have been deleted. */
  forgetKey(event: VerifiedEvent): void {
    this.#change(event, false, (entry) => {
      this.#keys[entry / 2] = 0n;
    });
  }

  /** Wakes the waiters of this thread: a batch has ended. */
  noteEnded(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves when a batch of this thread ended, or after a few milliseconds, in which one of another thread may have. */
  async change(): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, POLL_MS);
      this.#waiting.add(wake);
    });
  }

  #change(event: IdentifiedEvent, makes: boolean, change: (entry: number) => void): void {
    const bucket = this.#lock(event);
    if (bucket === null) return;
    const entry = this.#entryIn(bucket) ?? (makes ? this.#newEntry(bucket) : null);
    if (entry !== null) change(entry);
    this.#unlock(bucket);
  }

  /** Locks the bucket of an event, whose id and signature are in `#copy` then. @returns its place; null if it cannot be had */
  #lock({ id, sig }: ReceivedEvent): number | null {
    this.#copy.write(id, 0, 'hex');
    this.#copy.write(sig, ID_WORDS * WORD_BYTES, 'hex');
    const index = (this.#copyWords[0] ?? 0) & (this.#buckets - 1);
    const bucket = HEAD_WORDS + index * BUCKET_WORDS;
    for (let tries = 0; tries < MAX_LOCK_TRIES; tries++)
      if (Atomics.compareExchange(this.#words, bucket, 0, 1) === 0) return bucket;
    return null;
  }

  #unlock(bucket: number): void {
    Atomics.store(this.#words, bucket, 0);
  }

  /** The place of the entry with the id and the signature in `#copy`. */
  #entryIn(bucket: number): number | null {
    for (let way = 0; way < WAYS; way++) {
      const entry = bucket + BUCKET_HEAD_WORDS + way * ENTRY_WORDS;
      if (this.#isCopy(entry + COPY)) return entry;
    }
    return null;
  }

  #isCopy(at: number): boolean {
    for (let word = 0; word < COPY_WORDS; word++)
      if (this.#words[at + word] !== this.#copyWords[word]) return false;
    return true;
  }

  /** Replaces the oldest entry of a bucket by one of which nothing is known. */
  #newEntry(bucket: number): number {
    const way = this.#words[bucket + 1] ?? 0;
    this.#words[bucket + 1] = (way + 1) % WAYS;
    const entry = bucket + BUCKET_HEAD_WORDS + way * ENTRY_WORDS;
    this.#words.fill(0, entry, entry + COPY);
    this.#words.set(this.#copyWords, entry + COPY);
    return entry;
  }

  #read(entry: number): Recent {
    const key = this.#keys[entry / 2] ?? 0n;
    return {
      isVerified: this.#words[entry + VERIFIED] === 1,
      key: key === 0n ? null : key.toString(),
      owner: this.#words[entry + OWNER] ?? 0,
    };
  }
}
