import type { RelayState } from '../../src/nostr/relay-state.ts';

/** One check, as the model takes it: seconds and what was found. */
export interface Check {
  readonly at: number;
  readonly state: RelayState;
}

export interface Interval {
  readonly state: RelayState;
  readonly from: number;
  readonly to: number | null;
}

const LONGEST = 28 * 86400;

/**
 * The intervals of a relay by the rules of docs/monitor.md, second by second in spirit: each check paints what it found
 * from its moment to the next check, and "unknown" where it no longer speaks for the relay. Neighbours of one colour
 * are then one interval. Made to be plain, not fast.
 */
export function modelIntervals(checks: readonly Check[], interval: number): Interval[] {
  const sorted = [...checks].sort((a, b) => a.at - b.at);
  const painted: Interval[] = [];
  let failures = 0;
  let wasUp = false;
  for (const [index, { at, state }] of sorted.entries()) {
    if (state === 'down') failures += 1;
    if (state === 'up') failures = 0;
    wasUp ||= state === 'up';
    const speaksFor = Math.floor((Math.max(waitOf(state, failures, wasUp), interval) * 5) / 4);
    const next = sorted[index + 1]?.at ?? null;
    if (next === null || next <= at + speaksFor) painted.push({ state, from: at, to: next });
    else {
      painted.push({ state, from: at, to: at + speaksFor });
      painted.push({ state: 'unknown', from: at + speaksFor, to: next });
    }
  }
  return joined(painted);

  function waitOf(state: RelayState, failed: number, up: boolean): number {
    if (state !== 'down') return interval; // what is shorter speaks for an interval all the same
    const first = up ? interval / 8 : interval;
    return Math.min(first * 2 ** (failed - 1), Math.max(interval, LONGEST));
  }
}

function joined(painted: readonly Interval[]): Interval[] {
  const rows: Interval[] = [];
  for (const piece of painted) {
    const last = rows.at(-1);
    if (last?.state === piece.state) rows[rows.length - 1] = { ...last, to: piece.to };
    else rows.push(piece);
  }
  return rows;
}
