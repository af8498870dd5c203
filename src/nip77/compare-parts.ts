import type { EventFilter } from '../nostr/filter.ts';
import type { Window } from '../nostr/window.ts';
import type { RelayConnection } from '../relay-client/connection.ts';
import { ID_BYTES, timeBound } from './local-set.ts';
import {
  type Bound,
  compareBounds,
  FINGERPRINT_BYTES,
  FIRST,
  garbage,
  INFINITE,
  MessageReader,
  MessageWriter,
  MODE,
  NegentropyError,
} from './message.ts';
import { windowFilter } from './reconcile.ts';
import { failed, Nip77Session, type ReconcileEnd, type SessionLimits } from './session.ts';
import type { WindowPart } from './window-sums.ts';

/** Bytes of a part in a message: its bound, mode and fingerprint. */
const PART_BYTES = 32;

export interface PartsComparison {
  readonly end: ReconcileEnd;
  /** Whether the relay has other ids there, for each part; all of them unless done. */
  readonly differs: readonly boolean[];
  /** Characters of NIP-77 messages, in both directions. */
  readonly bytes: number;
}

/**
 * Asks a relay once in which parts of a window it has the same ids (NIP-77). What differs is not followed up. The session is
 * always closed. Never throws.
 */
export async function compareParts(
  connection: RelayConnection,
  filter: EventFilter,
  window: Window,
  parts: readonly WindowPart[],
  limits: SessionLimits,
  signal?: AbortSignal,
): Promise<PartsComparison> {
  const session = new Nip77Session(connection, limits, signal);
  const all = parts.map(() => true);
  try {
    session.send('NEG-OPEN', windowFilter(filter, window), messageOf(parts));
    const answer = await session.answer();
    const { bytes } = session;
    if (typeof answer !== 'string') return { end: answer, differs: all, bytes };
    return { end: { type: 'done' }, differs: differing(answer, parts), bytes };
  } catch (error) {
    if (!(error instanceof NegentropyError)) throw error;
    const { fault, message: text } = error;
    const end =
      fault === 'garbage' ? failed('garbage', text) : { type: 'unsupported' as const, text };
    return { end, differs: all, bytes: session.bytes };
  } finally {
    session.close();
  }
}

function messageOf(parts: readonly WindowPart[]): string {
  const message = new MessageWriter((parts.length + 1) * PART_BYTES);
  for (const [at, { fingerprint }] of parts.entries()) {
    message.range(endOf(parts, at), MODE.fingerprint);
    message.bytes(fingerprint);
  }
  return message.hex();
}

function endOf(parts: readonly WindowPart[], at: number): Bound {
  const next = parts[at + 1];
  return next ? timeBound(next.since) : INFINITE;
}

/** A part is the same where the answer skips all of it. @throws NegentropyError */
function differing(payload: string, parts: readonly WindowPart[]): boolean[] {
  const answer = new MessageReader(payload);
  const differs = parts.map(() => false);
  let lower = FIRST;
  while (!answer.isAtEnd) {
    const upper = answer.bound(lower);
    const mode = answer.varint();
    if (mode === MODE.fingerprint) answer.take(FINGERPRINT_BYTES);
    else if (mode === MODE.idList) answer.take(answer.varint() * ID_BYTES);
    else if (mode !== MODE.skip) throw garbage(`there is no mode ${mode}`);
    if (mode !== MODE.skip)
      for (const at of parts.keys()) {
        const begin = at === 0 ? FIRST : endOf(parts, at - 1);
        if (compareBounds(begin, upper) < 0 && compareBounds(endOf(parts, at), lower) > 0)
          differs[at] = true;
      }
    lower = upper;
  }
  return differs;
}
