import { type EventTemplate, finalizeEvent, getPublicKey } from 'nostr-tools/pure';
import type { NostrEvent } from './event.ts';
import { refusalOf } from './message.ts';
import { mineEvent } from './proof-of-work.ts';

/** What one check found (NIP-66). Round-trip times are whole milliseconds, null where the step failed or was not reached. */
export interface Nip66Result {
  readonly openable: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly rtt_open: number | null;
  readonly rtt_read: number | null;
  readonly rtt_write: number | null;
  /** One stable word: why the first step that failed did so. Null when all three held. */
  readonly reason: string | null;
}

/** One step of a check: how long it took, or why it failed. */
export type StepResult = { ok: true; rtt: number } | { ok: false; reason: string };

/** The ephemeral kind (NIP-01: 20000 to 29999, not stored) that relay monitors write as their test. */
export const TEST_EVENT_KIND = 22456;

/** A relay that does store the test event may delete it after this long, in seconds (NIP-40). */
const TEST_EVENT_LIFETIME = 3600;

/**
 * The most proof of work that is tried, in bits. With 0.9 million hashes a second, which a busy core gives, 20 bits
 * are found within the 5 s in 98 of 100 rounds, 22 bits in 65, 24 bits in 23: above 20 the answer would be a matter
 * of luck and not of the relay, and any relay could have our core for 5 s.
 */
export const MAX_POW_BITS = 20;
const MAX_POW_MS = 5000;

export interface TestEventOptions {
  /** Unix seconds. */
  readonly createdAt: number;
  /** Leading zero bits that the relay asks for in its NIP-11 `min_pow_difficulty`; 0 for none. */
  readonly minPow: number;
  /** Longest mining, in milliseconds; 5,000 when left out. */
  readonly maxMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Makes and signs the event that a write check sends: empty, ephemeral, with an expiration (NIP-40) and the proof
 * of work that the relay asks for (NIP-13).
 *
 * @returns the event, or null when the relay asks for more work than we do.
 * @throws the signal's reason when it aborts during the work.
 */
export async function makeTestEvent(
  secretKey: Uint8Array,
  options: TestEventOptions,
): Promise<NostrEvent | null> {
  const { createdAt, minPow, signal } = options;
  const template: EventTemplate = {
    kind: TEST_EVENT_KIND,
    created_at: createdAt,
    tags: [['expiration', String(createdAt + TEST_EVENT_LIFETIME)]],
    content: '',
  };
  if (minPow <= 0) return signed(template, secretKey);
  if (minPow > MAX_POW_BITS) return null;
  const limits = { maxMs: options.maxMs ?? MAX_POW_MS, ...(signal && { signal }) };
  const mined = await mineEvent(template, getPublicKey(secretKey), minPow, limits);
  return mined && signed(mined, secretKey);
}

/** Plain members only: nostr-tools marks what it signed with a symbol that says nothing to us. */
function signed(template: EventTemplate, secretKey: Uint8Array): NostrEvent {
  const { id, pubkey, created_at, kind, tags, content, sig } = finalizeEvent(template, secretKey);
  return { id, pubkey, created_at, kind, tags, content, sig };
}

/**
 * Judges the relay's OK for the test event (NIP-01). `duplicate:` and `mute:` count as accepted even with false:
 * the second is what a relay says of an ephemeral event that passed its rules while nobody was listening.
 *
 * @returns null when the relay takes the event, else the reason in one stable word.
 */
export function refusalOfOk(accepted: boolean, text: string): string | null {
  if (accepted) return null;
  const prefix = /^(duplicate|mute|pow|invalid|error):/.exec(text)?.[1];
  if (prefix === 'duplicate' || prefix === 'mute') return null;
  if (prefix) return prefix;
  const refusal = refusalOf(text, 'event');
  return refusal === 'other' ? 'rejected' : refusal;
}

/** Puts the three steps of a check into one result. A step that was not reached is given as null. */
export function toNip66Result(
  open: StepResult,
  read: StepResult | null = null,
  write: StepResult | null = null,
): Nip66Result {
  const failed = [open, read, write].find((step) => step?.ok === false);
  return {
    openable: open.ok,
    readable: read?.ok ?? false,
    writable: write?.ok ?? false,
    rtt_open: rttOf(open),
    rtt_read: rttOf(read),
    rtt_write: rttOf(write),
    reason: failed?.ok === false ? failed.reason : null,
  };
}

function rttOf(step: StepResult | null): number | null {
  return step?.ok ? Math.round(step.rtt) : null;
}
