import type { ProgressFigures } from '../database/progress-figures.ts';
import type { HealthStatus } from '../telemetry/health.ts';

export interface ProgressView {
  /** Null before it was read for the first time. */
  readonly archive: ProgressFigures | null;
  /** Figures of all services since this start. */
  readonly counts: Readonly<Record<string, number>>;
  readonly eventsPerSecond: number;
  readonly statuses: readonly HealthStatus[];
}

const MAX_REASONS = 6;
/** Relays that are named for each activity: `/health` names three, and there are two synchronizers. */
const MAX_NAMES = 6;

/**
 * What `npm start` shows at a terminal: the archive, this start, what is done or waited for, and what failed.
 *
 * @param width that lines may have: figures and names that do not fit are left out whole, the least important first, and
 * sentences go on in further lines
 */
export function progressLines(view: ProgressView, width = Number.POSITIVE_INFINITY): string[] {
  const { archive } = view;
  return [
    archive ? archiveOf(archive, width) : 'archive: being counted',
    startOf(view, width),
    ...activityOf(view, width),
    ...(archive && archive.failures.length > 0 ? [failuresOf(archive, width)] : []),
  ];
}

const figure = (value = 0) => value.toLocaleString('en-US');

/** The longest line that fits; the last one when none does. */
const fitting = (lines: readonly string[], width: number) =>
  lines.find(({ length }) => length <= width) ?? lines.at(-1) ?? '';

/** All of them, then without the last, and so on. */
const shorter = (parts: readonly string[], separator: string) =>
  parts.map((_, dropped) => parts.slice(0, parts.length - dropped).join(separator));

function archiveOf(
  { events, isEstimate, relays, readable }: ProgressFigures,
  width: number,
): string {
  const about = isEstimate ? 'about ' : '';
  const parts = [
    `archive: ${about}${figure(events)} events`,
    `${figure(relays)} relays`,
    `${figure(readable)} readable`,
  ];
  return fitting(shorter(parts, ', '), width);
}

function startOf({ counts, eventsPerSecond }: ProgressView, width: number): string {
  const parts = [
    `since this start: ${figure(counts.events)} new events (${figure(eventsPerSecond)}/s)`,
    `${figure(counts.relays_checked)} relays checked`,
    `${figure(counts.relays_visited)} visited`,
  ];
  return fitting(shorter(parts, ', '), width);
}

/** What is being done; else what is waited for, and until when. */
function activityOf({ archive, statuses }: ProgressView, width: number): string[] {
  const obstacle = obstacleOf(statuses);
  if (obstacle !== null) return wrapped(obstacle, width);
  const degraded = statuses.find(({ network }) => network === 'degraded')?.networkReason;
  return [doneNow(statuses, archive, width), ...(degraded ? wrapped(degraded, width) : [])];
}

/** What is waited for, as a sentence; null when nothing is in the way. */
function obstacleOf(statuses: readonly HealthStatus[]): string | null {
  const down = statuses.find(({ database }) => database === 'down');
  if (down) return `waiting for the database: ${down.databaseReason ?? 'it does not answer'}`;
  const fails = statuses.find(({ storing }) => storing === 'fails');
  if (fails) return `storing fails: ${fails.storingReason ?? 'see the log'}`;
  const cutOff = statuses.find(({ network }) => network === 'down');
  if (!cutOff) return null;
  const relays = Math.max(...statuses.map(({ waitsForNetwork = 0 }) => waitsForNetwork));
  const waiting = relays > 0 ? ` (${figure(relays)} relays wait)` : '';
  return `waiting for the network${waiting}: ${cutOff.networkReason ?? 'nothing can be reached'}`;
}

function doneNow(
  statuses: readonly HealthStatus[],
  archive: ProgressFigures | null,
  width: number,
): string {
  const busy = ['synchronising', 'checking', 'reading'].flatMap((what) => {
    const names = statuses.map(({ details }) => details?.[what]).filter(Boolean);
    const text = names.join(' ').replace(/\bwss?:\/\//g, '');
    return names.length > 0 ? [{ what, names: text.split(' ') }] : [];
  });
  if (busy.length > 0) {
    const lines = Array.from({ length: MAX_NAMES }, (_, fewer) =>
      busy.map(({ what, names }) => [what, ...names.slice(0, MAX_NAMES - fewer)].join(' ')),
    );
    const words = busy.map(({ what }) => what);
    const complete = lines.map((parts) => parts.join(' | '));
    return fitting([...complete, ...shorter(words, ' | ')], width);
  }
  if (statuses.some(({ ready }) => !ready) || statuses.length === 0) return 'starting';
  const at = archive?.nextCheckAt;
  if (at) return `waiting: the next check is due at ${clock(at)}`;
  return archive && archive.relays > 0
    ? 'waiting: the first checks begin in a moment'
    : 'waiting: no check is due';
}

/** A sentence in lines that end between words; a longer word is broken. */
function wrapped(sentence: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of sentence.split(/\s+/)) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (longer.length <= width) line = longer;
    else {
      if (line !== '') lines.push(line);
      line = word;
      for (; line.length > width; line = line.slice(width)) lines.push(line.slice(0, width));
    }
  }
  return [...lines, line];
}

function clock(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toTimeString().slice(0, 5);
}

/** Relays whose latest check failed, by reason; reasons for which there is no room are counted together. */
function failuresOf({ failures }: ProgressFigures, width: number): string {
  const lines = Array.from({ length: MAX_REASONS }, (_, fewer) => {
    const named = failures.slice(0, MAX_REASONS - fewer);
    const others = failures.slice(named.length).reduce((sum, { relays }) => sum + relays, 0);
    const parts = named.map(({ reason, relays }) => `${figure(relays)} ${reason}`);
    return `not readable: ${[...parts, ...(others > 0 ? [`${figure(others)} other`] : [])].join(', ')}`;
  });
  return fitting(lines, width);
}
