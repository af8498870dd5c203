import type { Window } from '../../nostr/window.ts';
import type { Stopped } from '../paging/pager-stop.ts';
import type { Visit } from '../visit.ts';
import { minus } from '../windows.ts';
import { withheldOf } from './compare-window.ts';
import { noteWithheld } from './fetch-listed.ts';
import { type Deferred, type ListedEvent, windowsOfListed } from './listed-ids.ts';

/**
 * Settles events that the relay has listed and that did not arrive when they were requested by id, after everything else
 * was read: pages may have contained them. Events missing from complete answers are withheld. Events without an answer
 * make their seconds a hole, `unanswered`, whatever pages prove of them. A visit that was cut off leaves them plain gaps.
 *
 * @returns what stopped the visit, if the relay is unreachable
 * @throws DatabaseError
 */
export async function settleListed(visit: Visit, isCutOff: boolean): Promise<Stopped | null> {
  const { events, deferred } = visit.listed.take();
  if (events.length === 0) return null;
  await visit.writer.flush();
  if (visit.proofs.distrusted || isCutOff) return null;
  if (!visit.session.connection.isOpen)
    return { reason: 'disconnected', text: 'while it was asked for what it listed' };
  const held = await visit.context.bigbrotr.withheld.held(
    withheldOf(visit),
    events.map(({ id }) => id),
  );
  const lost = events.filter(({ id }) => !held.has(id));
  const isNoted = await noteWithheld(visit, lost);
  const unanswered = lost.filter(({ reason }) => reason === null);
  const unnoted = isNoted ? [] : lost.filter(({ reason }) => reason !== null);
  const holes = [...holesOf(unnoted, 'withheld'), ...holesOf(unanswered, 'unanswered')];
  await restore(visit, deferred, holes);
  await visit.writer.endPage({ proven: [], holes, evidence: 'nip77' });
  return null;
}

/** Writes the deferred coverage of these seconds, except some windows. */
async function restore(
  visit: Visit,
  deferred: readonly Deferred[],
  without: readonly Window[],
): Promise<void> {
  for (const { windows, evidence } of deferred) {
    const proven = minus(windows, without);
    await visit.proofs.add('paging', { proven, holes: [], evidence });
  }
}

function holesOf(events: readonly ListedEvent[], reason: 'withheld' | 'unanswered') {
  return windowsOfListed(events).map(({ since, until }) => {
    const count = events.filter((event) => event.since >= since && event.until <= until).length;
    return { since, until, reason, count };
  });
}
