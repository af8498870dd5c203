import { refusalOf } from '../nostr/message.ts';
import { isStopReason, type StopReason } from '../relay/stop-reason.ts';

export type { StopReason } from '../relay/stop-reason.ts';

/** What stopped a visit: a word of the closed set, and the sentence, after a colon in the words of the relay. */
export interface VisitStop {
  readonly reason: StopReason;
  readonly detail: string;
}

/** Sentences of the pager and of visits that do not begin with their word. */
const SENTENCES: readonly (readonly [RegExp, StopReason])[] = [
  [/^time is up$/, 'time_is_up'],
  [/^aborted$/, 'stopped'],
  [/^http_\d+$/, 'http_error'],
  [/^too many forged or broken events$/, 'forged'],
  [/^ignores until$/, 'ignores_until'],
  [/^ignores since( or until)?$/, 'ignores_since'],
  [/^says that there is more and shows nothing$/, 'more_without_events'],
  [/^answers nothing where it has shown events$/, 'hides_events'],
  [/^shows nothing, though it has shown events before$/, 'hides_events'],
  [/^\d+ stretches cannot be proven(, |$)/, 'holes'],
  [/^\d+ events are listed and withheld$/, 'withheld'],
];

/**
 * The word for the sentence with which reading, or a connection, ended. The only place that reads such sentences: those
 * of the form `word`, `word: what the relay said` and `word during NIP-77`, and a few others.
 */
export function stopOf(detail: string): VisitStop {
  return { reason: wordOf(detail) ?? 'protocol', detail };
}

/** Why a reading that asked for everything is not complete: stretches not proven, and events withheld. @returns null when it is */
export function stopOfFlaws(holes: number, withheld: number): VisitStop | null {
  const details = [
    ...(holes > 0 ? [`${holes} stretches cannot be proven`] : []),
    ...(withheld > 0 ? [`${withheld} events are listed and withheld`] : []),
  ];
  return details.length === 0 ? null : stopOf(details.join(', '));
}

/** @returns null for a sentence that has no word of the set */
export function wordOf(detail: string): StopReason | null {
  const said = /^closed: (.*)$/s.exec(detail)?.[1];
  if (said !== undefined && refusalOf(said) === 'limit') return 'limit_refused';
  const [word = ''] = detail.split(/:| during /, 1);
  if (isStopReason(word)) return word;
  return SENTENCES.find(([sentence]) => sentence.test(detail))?.[1] ?? null;
}
