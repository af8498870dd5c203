/** Which relays are followed by which worker, and which are to be visited at once, since nobody follows them any more. */
export class Followed {
  /** Keys of relays that do not wait for their interval. A relay leaves them when it is visited. */
  readonly atOnce = new Set<number>();
  readonly #seats = new Map<number, number>();

  /** A worker follows a relay from now on. */
  begin(relayId: number, seat: number): void {
    this.#seats.set(relayId, seat);
    this.atOnce.delete(relayId);
  }

  /** A relay is followed no more, because its events could not be stored. @returns whether it was */
  lost(relayId: number): boolean {
    const was = this.#seats.delete(relayId);
    if (was) this.atOnce.add(relayId);
    return was;
  }

  /** The worker of a seat died. @returns whether it followed any relay */
  lostAllOf(seat: number): boolean {
    const lost = [...this.#seats].filter(([, other]) => other === seat);
    for (const [relayId] of lost) this.lost(relayId);
    return lost.length > 0;
  }

  /** Relays that nobody follows yet. */
  want(relayIds: Iterable<number>): void {
    for (const relayId of relayIds) this.atOnce.add(relayId);
  }
}
