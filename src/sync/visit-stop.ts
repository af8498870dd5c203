import { isOurFailure } from '../network/attribute-failure.ts';
import type { RelayErrorReason } from '../network/relay-error.ts';
import { isStopReason, type StopReason } from '../nostr/stop-reason.ts';
import { type Stopped, stopText } from './paging/pager-stop.ts';

export type { StopReason } from '../nostr/stop-reason.ts';

/** What stopped a visit: a word of the closed set, and a sentence, which ends with the words of the relay where it said any. */
export interface VisitStop {
  readonly reason: StopReason;
  readonly detail: string;
}

/** Why a visit that could go on stops for our own reasons. */
export type Interruption = Extract<StopReason, 'stopped' | 'time_is_up'>;

const INTERRUPTED: Readonly<Record<Interruption, string>> = {
  stopped: 'stopped',
  time_is_up: 'time is up',
};

export function stopOfInterruption(reason: Interruption): VisitStop {
  return { reason, detail: INTERRUPTED[reason] };
}

/** The stop by a connection that could not be opened. Its sentence is the reason, which may be an HTTP status. */
export function stopOfConnection(failure: RelayErrorReason): VisitStop {
  if (isOurFailure(failure)) return { reason: failure, detail: failure };
  if (failure === 'aborted') return stopOfInterruption('stopped');
  const reason = failure.startsWith('http_') ? 'http_error' : failure;
  return { reason: isStopReason(reason) ? reason : 'protocol', detail: failure };
}

/** The stop by what the relay answered, or did not. */
export function stopOfReading(stopped: Stopped): VisitStop {
  return { reason: stopped.reason, detail: stopText(stopped) };
}

/** Why a reading that asked for everything is not complete: stretches not proven, and events withheld. @returns null when it is */
export function stopOfFlaws(holes: number, withheld: number): VisitStop | null {
  const details = [
    ...(holes > 0 ? [`${holes} stretches cannot be proven`] : []),
    ...(withheld > 0 ? [`${withheld} events are listed and withheld`] : []),
  ];
  if (details.length === 0) return null;
  return { reason: holes > 0 ? 'holes' : 'withheld', detail: details.join(', ') };
}

/** What the relay said, where the sentence has it after the word. */
export function saidIn({ reason, detail }: VisitStop): string {
  const prefix = `${reason}: `;
  return detail.startsWith(prefix) ? detail.slice(prefix.length) : detail;
}
