import type { Window } from '../nostr/filter.ts';
import type { PagerStop } from '../relay/pager-stop.ts';
import type { Visit } from './visit.ts';

/** What rests on pages is taken back by any contradiction; what rests on a NIP-77 list only where a probe of it may be false. */
export type ClaimKind = 'paging' | 'nip77';

/** What a visit has proven, by filter, so that it can be taken back when the relay contradicts it. */
export class Claims {
  readonly #windows = new Map<number, { readonly kind: ClaimKind; readonly window: Window }[]>();

  note(filterId: number, kind: ClaimKind, windows: readonly Window[]): void {
    const noted = this.#windows.get(filterId) ?? [];
    noted.push(...windows.map((window) => ({ kind, window })));
    this.#windows.set(filterId, noted);
  }

  /** Windows of one filter that were proven so, joined where they touch. */
  of(filterId: number, kind: ClaimKind): Window[] {
    const noted = this.#windows.get(filterId) ?? [];
    return joined(noted.filter((claim) => claim.kind === kind).map(({ window }) => window));
  }

  get filterIds(): number[] {
    return [...this.#windows.keys()];
  }
}

/**
 * Takes back what paging has proven in this visit, for every filter, and believes no end of a page any more. Events after
 * their EOSE take back what NIP-77 has proven, too: its probes believe an EOSE. @throws DatabaseError
 */
export async function distrust(
  visit: Visit,
  reason: Extract<PagerStop, 'events_after_eose' | 'unsteady'>,
  text: string,
): Promise<void> {
  if (visit.distrust) return;
  visit.distrust = { reason, text };
  visit.proved = false;
  await visit.writer.flush();
  const { bigbrotr } = visit.context;
  for (const filterId of visit.claims.filterIds) {
    const paged = visit.claims.of(filterId, 'paging');
    await bigbrotr.retractCoverage(visit.relay, filterId, 'paging', paged);
    if (reason !== 'events_after_eose') continue;
    const listed = visit.claims.of(filterId, 'nip77');
    await bigbrotr.retractCoverage(visit.relay, filterId, 'nip77', listed);
  }
}

/**
 * Notes what a relay that is not believed was asked for as holes, where the visit was cut off: the next one goes on below
 * them instead of reading the same again. @throws DatabaseError
 */
export async function noteContradicted(visit: Visit): Promise<void> {
  const { bigbrotr } = visit.context;
  for (const filterId of visit.claims.filterIds) {
    const windows = visit.claims.of(filterId, 'paging');
    if (windows.length > 0) await bigbrotr.noteContradicted(visit.relay, filterId, windows);
  }
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
