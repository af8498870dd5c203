import type { ClientRefusal, Refusal } from '../nostr/message.ts';
import { refusalOfClose } from './close-frame.ts';
import type { Closed } from './connection.ts';

/** How a page ended. Only `finish`, `more` and `eose` may prove anything. */
export type PageEnd =
  | {
      type: 'finish' | 'more' | 'eose';
      /** Events that arrived after the EOSE, within `lingerMs`. */
      late?: number;
    }
  | { type: 'closed'; text: string }
  | {
      type: 'timeout';
      text: string;
      /** Whether the relay was still sending when the total timeout passed; else it was silent. */
      isSlow?: true;
    }
  /** `refusal`: that of the close frame. */
  | { type: 'disconnected'; text: string; refusal?: ClientRefusal }
  | { type: 'oversized'; text: string }
  | { type: 'overflow'; text: string }
  | { type: 'garbled'; text: string }
  | { type: 'aborted' };

/** Why an answer to a REQ proves nothing: one stable word, for counting. `closed`: by a CLOSED that names no reason. */
export type AnswerFailure =
  | Exclude<Refusal, 'other'>
  | Exclude<PageEnd['type'], 'finish' | 'more' | 'eose'>;

/** An end that the relay declared. */
export type Eose = Extract<PageEnd, { type: 'finish' | 'more' | 'eose' }>;

/** Whether the relay has declared the end of the page, so that it may prove something. */
export function hasEnd(end: PageEnd): end is Eose {
  return end.type === 'finish' || end.type === 'more' || end.type === 'eose';
}

/** How a page ends when its connection is closed. */
export function endOfClose(closed: Closed): PageEnd {
  const text = closed.reason || `code ${closed.code}`;
  if (closed.oversized) return { type: 'oversized', text };
  const refusal = refusalOfClose(closed);
  return { type: 'disconnected', text, ...(refusal !== null && { refusal }) };
}
