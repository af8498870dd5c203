/** Who holds relays, from their side: each service connects from an address of its own, and no two may work on one relay at once. */
import type { SoakRelay } from './relays.ts';
import type { KeptService } from './services.ts';

/** A process that was stopped closes its connections when it goes on: so long after that they are nothing wrong, in milliseconds. */
const WAKES_WITHIN_MS = 5000;

/** Two services of one kind of work that were connected to a relay at once. */
interface Meeting {
  readonly relay: SoakRelay;
  readonly services: readonly KeptService[];
  readonly from: number;
  /** `performance.now()` when the first of them had left; null while both are there. */
  until: number | null;
}

/** Services that share the claims of one kind of work: the same for both synchronizers. */
function workOf({ name }: KeptService): 'visit' | 'check' | null {
  if (name === 'finder') return null; // it tries names, and follows the reports of monitors on some relays
  return name === 'monitor' ? 'check' : 'visit';
}

export class Holders {
  readonly #services: ReadonlyMap<string, KeptService>;
  readonly #meetings: Meeting[] = [];
  /** Connections that were seen. */
  seen = 0;
  /** Meetings with a process that was stopped, or had just been: its connections were open, and it did nothing. */
  withStopped = 0;

  constructor(services: readonly KeptService[]) {
    this.#services = new Map(services.map((service) => [service.address, service]));
  }

  watch(relays: readonly SoakRelay[]): void {
    for (const relay of relays) {
      const open = new Map<KeptService, number>();
      relay.onConnection = (address) => {
        const service = this.#services.get(address);
        if (!service) return () => {};
        return this.#opened(relay, service, open);
      };
    }
  }

  #opened(relay: SoakRelay, service: KeptService, open: Map<KeptService, number>): () => void {
    this.seen += 1;
    const work = workOf(service);
    for (const [other, count] of open)
      if (count > 0 && other !== service && work !== null && workOf(other) === work)
        this.#met(relay, [other, service]);
    open.set(service, (open.get(service) ?? 0) + 1);
    return () => {
      const left = (open.get(service) ?? 1) - 1;
      open.set(service, left);
      if (left > 0) return;
      for (const meeting of this.#meetings)
        if (meeting.relay === relay && meeting.services.includes(service))
          meeting.until ??= performance.now();
    };
  }

  #met(relay: SoakRelay, services: readonly KeptService[]): void {
    if (services.some((one) => one.wasStopped(WAKES_WITHIN_MS))) this.withStopped += 1;
    else this.#meetings.push({ relay, services, from: performance.now(), until: null });
  }

  /** Meetings, with how long they took, in milliseconds. */
  get meetings(): readonly { readonly where: string; readonly ms: number }[] {
    return this.#meetings.map(({ relay, services, from, until }) => ({
      where: `${services.map(({ label }) => label).join(' and ')} at the relay that ${relay.name}`,
      ms: Math.round((until ?? performance.now()) - from),
    }));
  }
}
