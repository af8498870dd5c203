/** The relays of a soak, each with the model of what it holds: told apart from what the archive makes of it. */
import type { NostrEvent } from '../../../src/nostr/event.ts';
import type { Random } from '../../fixtures/random.ts';
import { GOOD, type Hostile, type RunningHostile } from '../../relay/hostile-relays.ts';
import {
  type Quirk,
  type RelayBehaviour,
  type ScriptedRelay,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';
import type { Kind, Setup } from './relay-kinds.ts';

/** What is known of a relay without asking the archive. */
export interface ModelledRelay {
  readonly name: string;
  readonly url: string;
  readonly promise: Kind['promise'] | 'hostile';
  /** Valid events that it holds now, by id. */
  readonly held: ReadonlyMap<string, NostrEvent>;
  /** Of these, the ids of those that it has held from the beginning: whenever their time is claimed they are archived. */
  readonly lasting: ReadonlySet<string>;
  /** Ids of all valid events that it has ever held. */
  readonly ever: ReadonlySet<string>;
  /** What it was planned to do and has not done, by name. */
  missingQuirks(): readonly string[];
  /** Gives memory back: what it has seen is forgotten, what it did is counted. */
  forget(): void;
  stop(): Promise<void>;
}

/** A relay of the kinds that an archive should get along with, over all its restarts. */
export class SoakRelay implements ModelledRelay {
  readonly name: string;
  readonly promise: Kind['promise'];
  readonly mayChange: boolean;
  readonly url: string;
  readonly held = new Map<string, NostrEvent>();
  readonly lasting = new Set<string>();
  readonly ever = new Set<string>();
  /** Whether a fault has to do with it now; then no other has. */
  busy = false;
  readonly #shows: readonly string[];
  readonly #setup: Setup;
  readonly #port: number;
  readonly #fired = new Map<string, number>();
  /** Called for each connection, with the address of the client; what it returns when that is closed. */
  onConnection: (address: string) => () => void = () => () => {};
  #behaviour: RelayBehaviour;
  #relay: ScriptedRelay | null = null;

  constructor(kind: Kind, setup: Setup, port: number) {
    this.name = kind.name;
    this.promise = kind.promise;
    this.mayChange = kind.mayChange;
    this.url = `ws://127.0.0.1:${port}`;
    this.#shows = kind.shows;
    this.#setup = setup;
    this.#port = port;
    this.#behaviour = setup.behaviour;
    this.bestow(setup.good);
  }

  get isUp(): boolean {
    return this.#relay !== null;
  }

  get hasNip77(): boolean {
    return this.#setup.nip77 !== undefined;
  }

  get connections(): number {
    return this.#relay?.connections.open ?? 0;
  }

  async start(): Promise<void> {
    const { forged, nip77 } = this.#setup;
    const events = [...this.held.values(), ...forged];
    this.#relay = await startScriptedRelay({
      ...this.#behaviour,
      ...{ events, nip77: nip77 ?? null, port: this.#port },
      onConnection: (address) => this.onConnection(address),
    });
  }

  async stop(): Promise<void> {
    this.forget();
    const relay = this.#relay;
    this.#relay = null;
    await relay?.stop();
  }

  /** Holds more events from the beginning. To be called before `start`. */
  bestow(events: readonly NostrEvent[]): void {
    this.#hold(events);
    for (const { id } of events) this.lasting.add(id);
  }

  /** Receives events: pushed to who listens, or as though they had always been there. */
  receive(events: readonly NostrEvent[], how: 'pushed' | 'silently'): void {
    this.#hold(events);
    if (how === 'silently') this.#relay?.add(events);
    else for (const event of events) this.#relay?.publish(event);
  }

  /** Deletes some of its events, half of them at most: a relay that shows nothing any more is not believed. @returns how many */
  delete(random: Random, count: number): number {
    const ids = [...this.held.keys()];
    const gone = Array.from({ length: Math.min(count, Math.floor(ids.length / 2)) }, () =>
      random.pick(ids),
    );
    for (const id of gone) {
      this.held.delete(id);
      this.lasting.delete(id);
    }
    this.#relay?.remove(gone);
    return gone.length;
  }

  /** Cuts every connection. @returns how many there were */
  dropAll(): number {
    const { connections } = this;
    this.#relay?.dropAll();
    return connections;
  }

  /** Answers in another way from now on, as after a restart with another configuration. */
  reconfigure(quirk: Quirk): number {
    this.#behaviour = { ...this.#behaviour, quirk };
    this.#relay?.change({ quirk });
    return this.dropAll();
  }

  /** Takes connections and messages and says nothing any more. */
  hang(): void {
    const frozen = { after: 0, end: 'freeze' } as const;
    this.#relay?.change({ upgrade: 'silent', quirk: frozen, onRequest: () => frozen });
  }

  /** Ends `hang`. */
  wake(): void {
    const { upgrade = 'accept', quirk = {}, onRequest = () => 'answer' as const } = this.#behaviour;
    this.#relay?.change({ upgrade, quirk, onRequest });
    this.dropAll();
  }

  fired(name: string): number {
    return this.#fired.get(name) ?? 0;
  }

  missingQuirks(): readonly string[] {
    this.forget();
    return this.#shows.filter((name) => this.fired(name) === 0);
  }

  forget(): void {
    for (const [name, count] of Object.entries(this.#relay?.fired ?? {})) this.#count(name, count);
    this.#count('nip77', this.#relay?.nip77.opened.length ?? 0);
    this.#relay?.forget();
  }

  #count(name: string, by: number): void {
    if (by > 0) this.#fired.set(name, this.fired(name) + by);
  }

  #hold(events: readonly NostrEvent[]): void {
    for (const event of events) {
      this.held.set(event.id, event);
      this.ever.add(event.id);
    }
  }
}

const GOOD_BY_ID = new Map(GOOD.map((event) => [event.id, event]));
const GOOD_IDS = new Set(GOOD_BY_ID.keys());

/** A relay that does what none should. What it shows of its good events is archived, and nothing else. */
export class HostileRelay implements ModelledRelay {
  readonly name: string;
  readonly url: string;
  readonly promise = 'hostile';
  readonly held = GOOD_BY_ID;
  readonly lasting = GOOD_IDS;
  readonly ever = GOOD_IDS;
  readonly #running: RunningHostile;

  constructor({ name }: Hostile, running: RunningHostile) {
    this.name = name;
    this.url = running.url;
    this.#running = running;
  }

  missingQuirks(): readonly string[] {
    const { strayed, happened } = this.#running;
    if (strayed() > 0) return ['it led a service elsewhere'];
    return happened() > 0 ? [] : ['its fault'];
  }

  forget(): void {}

  stop(): Promise<void> {
    return this.#running.stop();
  }
}
