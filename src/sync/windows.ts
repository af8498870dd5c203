/** Arithmetic of windows. Pure. */
import type { Window } from '../nostr/window.ts';

/** What of some windows lies in none of the others. */
export function minus(windows: readonly Window[], others: readonly Window[]): Window[] {
  let parts = [...windows];
  for (const { since, until } of others) {
    parts = parts.flatMap((part) => {
      if (until < part.since || since > part.until) return [part];
      return [
        { since: part.since, until: since - 1 },
        { since: until + 1, until: part.until },
      ].filter((left) => left.since <= left.until);
    });
  }
  return parts;
}

/** From the oldest to the newest second of some windows; null without any. */
export function boundsOf(windows: readonly Window[]): Window | null {
  if (windows.length === 0) return null;
  return {
    since: Math.min(...windows.map(({ since }) => since)),
    until: Math.max(...windows.map(({ until }) => until)),
  };
}

/** Windows that touch each other as one, oldest first. */
export function joined(windows: readonly Window[]): Window[] {
  const joint: { since: number; until: number }[] = [];
  for (const { since, until } of [...windows].sort((a, b) => a.since - b.since)) {
    const last = joint.at(-1);
    if (last && since <= last.until + 1) last.until = Math.max(last.until, until);
    else joint.push({ since, until });
  }
  return joint;
}
