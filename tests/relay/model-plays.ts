/** One model relay, visited until it is read or has had its visits: what the tests and the long runs of the models share. */

import fc from 'fast-check';
import type { Window } from '../../src/nostr/window.ts';
import { ModelRelay } from './model-relay.ts';
import {
  type AnyScenario,
  anyRelay,
  type ChangingScenario,
  changingRelay,
  type HidingScenario,
  hidingRelay,
  meet,
  NOW,
  type Oddities,
  oddities,
  tellable,
} from './model-scenarios.ts';
import { ModelArchive } from './model-visits.ts';

/** Of relays that show between 30 % and 70 % of their events at each asking, at most this part is believed. */
export const MOST_BELIEVED = 0.06;

/** What was played in a run. */
export class Plays {
  played = 0;
  complete = 0;
  readonly fired = new Map<string, number>();
  /** Relays that show a part of their events at each asking, and how many of them were believed all the same. */
  changing = 0;
  believed = 0;
  /** Relays whose visit ended because they answered nothing where they had shown events. */
  hiding = 0;

  /** Visits any relay. @throws Error where a second is claimed of which the archive lacks an event */
  playAny(drawn: AnyScenario & Oddities): void {
    const { scenario, visits } = tellable(drawn);
    const { relay, archive } = meet(scenario);
    let wanted: Window = { since: 0, until: NOW };
    for (let visit = 0; visit < visits && !relay.lookedComplete; visit++) {
      wanted = { since: 0, until: NOW + visit };
      archive.visit(wanted);
      const lost = relay.lookedComplete ? null : archive.lost();
      if (lost) throw new Error(`visit ${visit + 1} claims falsely: ${JSON.stringify(lost)}`);
    }
    if (relay.lookedComplete) return;
    this.played += 1;
    if (archive.unexplained(wanted).length === 0) this.complete += 1;
    this.#note(relay);
  }

  /** Visits a relay once that shows a part of its events at each asking. */
  playChanging({ seconds, serves, atProbe, cap, limit, seed }: ChangingScenario): void {
    const events = seconds.map((createdAt, i) => ({ id: `${i}`, createdAt, valid: true }));
    const relay = new ModelRelay({ events, serves, ...(atProbe && { atProbe }), cap, seed });
    const archive = new ModelArchive(relay, { limit, seed });
    archive.visit({ since: 0, until: NOW });
    this.changing += 1;
    if (archive.lost()) this.believed += 1;
    this.#note(relay);
  }

  /**
   * Visits a relay once that also answers nothing at times.
   * @throws Error where a visit that ends with `hides_events` claims a second of which the archive lacks an event
   */
  playHiding({ seconds, serves, empty, order, cap, limit, seed }: HidingScenario): void {
    const events = seconds.map((createdAt, i) => ({ id: `${i}`, createdAt, valid: true }));
    const relay = new ModelRelay({ events, serves, order, cap, seed, faults: { empty } });
    const archive = new ModelArchive(relay, { limit, seed });
    archive.visit({ since: 0, until: NOW });
    if (!archive.stopped?.startsWith('hides_events')) return;
    this.hiding += 1;
    const lost = archive.lost();
    if (lost) throw new Error(`what is hidden was claimed: ${JSON.stringify(lost)}`);
  }

  #note(relay: ModelRelay): void {
    for (const [name, times] of Object.entries(relay.fired))
      this.fired.set(name, (this.fired.get(name) ?? 0) + times);
  }

  /** Adds what another run has played. */
  add(other: Plays): void {
    this.played += other.played;
    this.complete += other.complete;
    this.changing += other.changing;
    this.believed += other.believed;
  }

  toString(): string {
    const { played, complete, changing, believed } = this;
    return `${played} played, ${complete} read completely; ${changing} that change their answers, ${believed} of them believed`;
  }
}

/** Plays that many relays of any kind. @throws Error with the relay that shows a false claim */
export function playAll(plays: Plays, parameters: { numRuns: number; seed: number }): void {
  const any = fc.property(anyRelay, oddities, (drawn, odd) => plays.playAny({ ...drawn, ...odd }));
  fc.assert(any, parameters);
}

/** Plays that many relays whose answers change. */
export function playChangingAll(plays: Plays, parameters: { numRuns: number; seed: number }): void {
  fc.assert(
    fc.property(changingRelay, (scenario) => plays.playChanging(scenario)),
    parameters,
  );
}

/** Plays that many relays whose answers change, and are empty at times. @throws Error with the relay that shows a false claim */
export function playHidingAll(plays: Plays, parameters: { numRuns: number; seed: number }): void {
  fc.assert(
    fc.property(hidingRelay, (scenario) => plays.playHiding(scenario)),
    parameters,
  );
}
