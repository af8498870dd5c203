import type { ClientRefusal } from '../nostr/message.ts';
import { refusalOfClose } from './close-frame.ts';
import type { Closed } from './connection.ts';

/** How a page ended. Only `finish`, `more` and `eose` may prove anything. */
export type PageEnd =
  | {
      type: 'finish' | 'more' | 'eose';
      /** Events that came after the EOSE, while it was waited for them (`lingerMs`). */
      late?: number;
    }
  | { type: 'closed'; text: string }
  | {
      type: 'timeout';
      text: string;
      /** Whether the relay went on sending until the time was over; else it was silent. */
      isSlow?: true;
    }
  /** `refusal`: what the relay said in its close frame. */
  | { type: 'disconnected'; text: string; refusal?: ClientRefusal }
  | { type: 'oversized'; text: string }
  | { type: 'overflow'; text: string }
  | { type: 'garbled'; text: string }
  | { type: 'aborted' };

/** An end that the relay itself has told. */
export type Eose = Extract<PageEnd, { type: 'finish' | 'more' | 'eose' }>;

/** How a page ends whose connection is gone. */
export function endOfClose(closed: Closed): PageEnd {
  const text = closed.reason || `code ${closed.code}`;
  if (closed.oversized) return { type: 'oversized', text };
  const refusal = refusalOfClose(closed);
  return { type: 'disconnected', text, ...(refusal !== null && { refusal }) };
}
