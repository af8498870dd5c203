import type { Withheld } from '../../database/withheld.ts';
import type { Edge, NeededRun } from '../../nip77/initiator.ts';
import type { LocalSet } from '../../nip77/local-set.ts';
import type { Reconciliation } from '../../nip77/reconcile.ts';
import type { Window } from '../../nostr/window.ts';

/**
 * Bounds of `created_at` of withheld events. Their bodies are unknown, but a relay lists ids in the order of
 * (created_at, id), so the events listed before and after one bound its time. A fingerprint depends on ids alone: a
 * withheld id placed anywhere between its neighbours gives the fingerprint of an unchanged relay. Pure.
 */

/** Windows of the wanted ids. @param times known `created_at` of needed ids */
export function windowsOf(
  runs: readonly NeededRun[],
  wanted: ReadonlySet<string>,
  times: ReadonlyMap<string, number>,
  window: Window,
): Withheld[] {
  const found: Withheld[] = [];
  for (const { ids, after, before } of runs) {
    let lower = after;
    let pending: string[] = [];
    const end = (upper: Edge) => {
      for (const id of pending) found.push({ id, ...between(lower, upper, id, window) });
      pending = [];
      lower = upper;
    };
    for (const id of ids) {
      const createdAt = times.get(id);
      if (createdAt !== undefined) end({ createdAt, id });
      else if (wanted.has(id)) pending.push(id);
    }
    end(before);
  }
  return found;
}

/** The window between two edges; the whole window if a list contradicts its own order. */
function between(lower: Edge, upper: Edge, id: string, window: Window): Window {
  const since = Math.max(lower.createdAt + (id < lower.id ? 1 : 0), window.since);
  const until = Math.min(upper.createdAt - (id > upper.id ? 1 : 0), window.until);
  return since <= until ? { since, until } : { since: window.since, until: window.until };
}

export interface SettledWithheld {
  /** Ids that the local set lacks, and that are not withheld. */
  readonly need: string[];
  /** Positions of ids that the relay does not list, and that are not withheld. */
  readonly have: number[];
  /** Withheld ids whose window is narrower now. */
  readonly placed: Withheld[];
  /** Withheld ids of the window that were not listed. */
  readonly gone: string[];
}

/** Removes withheld ids from the result of a reconciliation. @param known the withheld ones of the needed ids */
export function settleWithheld(
  { end, need, have, runs }: Reconciliation,
  local: LocalSet,
  window: Window,
  known: readonly Withheld[],
): SettledWithheld {
  if (known.length === 0 && local.unplaced.size === 0) return { need, have, placed: [], gone: [] };
  const listed = new Set(known.map(({ id }) => id));
  const placed = windowsOf(runs, listed, new Map(), window);
  const gone: string[] = [];
  for (const position of end.type === 'done' ? have : []) {
    const one = local.unplaced.get(position);
    if (!one || listed.has(one.id)) continue;
    const outside = outsideOf(one, window);
    if (outside) placed.push({ id: one.id, ...outside });
    else gone.push(one.id);
  }
  return {
    need: need.filter((id) => !listed.has(id)),
    have: have.filter((position) => !local.unplaced.has(position)),
    placed,
    gone,
  };
}

/** The part of a stretch outside a window; all of it if it extends beyond both sides; null if it lies inside. */
function outsideOf({ since, until }: Window, window: Window): Window | null {
  if (since < window.since && until > window.until) return { since, until };
  if (since < window.since) return { since, until: window.since - 1 };
  return until > window.until ? { since: window.until + 1, until } : null;
}
