import { type EventTemplate, getPublicKey } from 'nostr-tools/pure';
import type { NostrEvent } from './event.ts';
import { mineEvent } from './proof-of-work.ts';
import { signEvent } from './sign.ts';

/** The result of one check (NIP-66). Round-trip times are whole milliseconds, null when the step failed or was not reached. */
export interface Nip66Result {
  readonly openable: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly rtt_open: number | null;
  readonly rtt_read: number | null;
  readonly rtt_write: number | null;
  /** Why the first failed step failed, one stable word; null when none failed. */
  readonly reason: string | null;
}

/** One step of a check: how long it took, or why it failed. */
export type StepResult = { ok: true; rtt: number } | { ok: false; reason: string };

/** The ephemeral kind (NIP-01: not stored) that relay monitors use for test events. */
export const TEST_EVENT_KIND = 22456;

/** A relay that stores the test event may delete it after this, in seconds (NIP-40). */
const TEST_EVENT_LIFETIME = 3600;

/**
 * Most proof of work that is attempted, in bits. At 0.9 million hashes a second, on a busy core, 20 bits are found within
 * the 5 s in 98 of 100 attempts, 22 bits in 65, 24 bits in 23: above 20 the result depends on chance and not on the relay,
 * and any relay could occupy a core for 5 s.
 */
export const MAX_POW_BITS = 20;
const MAX_POW_MS = 5000;

export interface TestEventOptions {
  /** Unix seconds. */
  readonly createdAt: number;
  /** Leading zero bits that the relay requires (NIP-11 `min_pow_difficulty`); 0 for none. */
  readonly minPow: number;
  /** Longest mining, in milliseconds; default 5,000. */
  readonly maxMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Creates and signs the event of a write check: empty, ephemeral, with an expiration (NIP-40) and the proof of work that
 * the relay requires (NIP-13).
 *
 * @returns the event, or null when the relay requires more work than is attempted
 * @throws the signal's reason when it aborts during the work
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
  if (minPow <= 0) return signEvent(template, secretKey);
  if (minPow > MAX_POW_BITS) return null;
  const limits = { maxMs: options.maxMs ?? MAX_POW_MS, ...(signal && { signal }) };
  const mined = await mineEvent(template, getPublicKey(secretKey), minPow, limits);
  return mined && signEvent(mined, secretKey);
}

/** Combines the three steps of a check into one result. A step that was not reached is null. */
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
