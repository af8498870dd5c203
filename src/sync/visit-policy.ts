import type { RelayPolicy } from '../network/relay-policy.ts';

/** The relay policy during a visit: what earlier visits have remembered of the relay, and what this one adds. */
export class VisitPolicy {
  #current: RelayPolicy;

  constructor(remembered: RelayPolicy) {
    this.#current = remembered;
  }

  get current(): RelayPolicy {
    return this.#current;
  }

  /** Replaces the policy by one that was made from it. */
  update(change: (policy: RelayPolicy) => RelayPolicy): void {
    this.#current = change(this.#current);
  }
}
