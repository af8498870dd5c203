/** Sends the monitor's events to the relays that the operator named, each at that relay's own pace. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { EventTemplate } from 'nostr-tools/pure';
import type { Logger } from './logger.ts';
import { type NostrEvent, parseEvent } from './nostr/event.ts';
import { refusalOf } from './nostr/message.ts';
import { CLIENT_TAG, signed } from './nostr/nip66-events.ts';
import { Authenticator, askAuthenticated } from './relay/authentication.ts';
import type { RelayConnection } from './relay/connection.ts';
import { publishEvent } from './relay/publish.ts';
import { retryAfterOf } from './relay/relay-error.ts';
import { readPage } from './relay/subscription.ts';
import type { RelayUrl } from './relay/url.ts';

export interface PublisherOptions {
  readonly relays: readonly RelayUrl[];
  readonly secretKey: Uint8Array;
  /** The key that belongs to it, hex. */
  readonly publicKey: string;
  /** The events about the monitor itself; asked for when they may have to be published. */
  readonly self: () => readonly EventTemplate[];
  /** @throws RelayError, or what else keeps the relay from being used now */
  readonly connect: (url: RelayUrl, signal: AbortSignal) => Promise<RelayConnection>;
  /** Longest wait for each answer of a relay, in milliseconds. */
  readonly timeoutMs: number;
  /** Hears how each attempt ended: a word of `PublishOutcome`, or why there was no connection, or `dropped`. */
  readonly onOutcome: (url: RelayUrl, outcome: string) => void;
  readonly log: Logger;
  /** Other pauses than the ordinary ones, in milliseconds: for tests. */
  readonly pauses?: Readonly<Partial<Record<PauseReason, Pause>>>;
}

interface Pause {
  readonly first: number;
  readonly longest: number;
}

type PauseReason = 'rate_limited' | 'refused' | 'failed';

const MINUTE = 60_000;
/** First and longest pause, in milliseconds; each in a row doubles it. */
const PAUSES: Readonly<Record<PauseReason, Pause>> = {
  rate_limited: { first: 10_000, longest: 30 * MINUTE },
  refused: { first: 60 * MINUTE, longest: 24 * 60 * MINUTE },
  failed: { first: 5000, longest: 30 * MINUTE },
};
/** After these the relay pauses and the event waits. Any other refusal is meant for this event alone, which is let go. */
const PAUSE_AFTER: Readonly<Record<string, PauseReason>> = {
  rate_limited: 'rate_limited',
  auth_required: 'refused',
  restricted: 'refused',
  blocked: 'refused',
  timeout: 'failed',
  disconnected: 'failed',
};
/** What waits for one relay, at most, in events and in characters of their content: the oldest is let go. */
const MAX_WAITING = 20_000;
const MAX_WAITING_LENGTH = 32 * 1024 * 1024;
/** Least time from one event to the next at one relay, in milliseconds. */
const PACE_MS = 50;
/** A connection over which nothing goes is closed after so long, in milliseconds. */
const IDLE_MS = 60_000;
/** What the monitor says of itself is looked after this often, in milliseconds. */
const SELF_EVERY_MS = 24 * 60 * MINUTE;
/** Profile and relay list, which a person's key may have from elsewhere (NIP-01, NIP-65). */
const PERSONAL_KINDS: ReadonlySet<number> = new Set([0, 10_002]);
const SELF_LIMITS = { maxEvents: 20, maxBytes: 1024 * 1024 };

/** One queue and one connection for each relay: one that is dead, slow or refuses costs the others nothing. */
export class Publisher {
  readonly #outlets: readonly Outlet[];
  readonly #stopping = new AbortController();
  readonly #running: Promise<unknown>;

  constructor(options: PublisherOptions) {
    this.#outlets = options.relays.map((url) => new Outlet(url, options, this.#stopping.signal));
    this.#running = Promise.all(this.#outlets.map((outlet) => outlet.run()));
  }

  /** Takes an event for every relay and returns at once. A newer one of the same address takes its place (NIP-01). */
  publish(event: NostrEvent): void {
    for (const outlet of this.#outlets) outlet.add(event);
  }

  /** What waits and what pauses, a sentence for people. */
  get state(): string {
    return this.#outlets.map((outlet) => outlet.state).join('; ');
  }

  /** Resolves when every relay has all events or pauses, when it is stopped, or after so many milliseconds. */
  async flush(withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (
      performance.now() < deadline &&
      !this.#stopping.signal.aborted &&
      this.#outlets.some((outlet) => outlet.isBusy)
    )
      await sleep(20);
  }

  /** Closes every connection. What still waits is let go: the next check of its relay brings it anew. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }
}

interface Session {
  readonly connection: RelayConnection;
  readonly authenticator: Authenticator;
}

/** One relay that is published to. */
class Outlet {
  readonly #url: RelayUrl;
  readonly #options: PublisherOptions;
  readonly #signal: AbortSignal;
  /** By address: kind, and what `d` says (NIP-01). */
  readonly #waiting = new Map<string, NostrEvent>();
  #waitingLength = 0;
  #session: Session | null = null;
  #wake: (() => void) | null = null;
  #pausedUntil = 0;
  #pauseReason = '';
  /** Pauses in a row. */
  #strikes = 0;
  #selfSeenAt = Number.NEGATIVE_INFINITY;

  constructor(url: RelayUrl, options: PublisherOptions, signal: AbortSignal) {
    this.#url = url;
    this.#options = options;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#wake?.(), { once: true });
  }

  get isBusy(): boolean {
    return !this.#isPausing && (this.#waiting.size > 0 || this.#isSelfDue);
  }

  get state(): string {
    const pausing = this.#isPausing ? `, pausing (${this.#pauseReason})` : '';
    return `${this.#url}: ${this.#waiting.size} waiting${pausing}`;
  }

  get #isPausing(): boolean {
    return performance.now() < this.#pausedUntil;
  }

  get #isSelfDue(): boolean {
    return performance.now() - this.#selfSeenAt > SELF_EVERY_MS;
  }

  add(event: NostrEvent): void {
    const address = addressOf(event);
    this.#remove(address); // so that it stands last again
    this.#waiting.set(address, event);
    this.#waitingLength += event.content.length;
    while (this.#waiting.size > MAX_WAITING || this.#waitingLength > MAX_WAITING_LENGTH) {
      const [oldest = ''] = this.#waiting.keys();
      this.#remove(oldest);
      this.#tell('dropped');
    }
    this.#wake?.();
  }

  #remove(address: string): void {
    this.#waitingLength -= this.#waiting.get(address)?.content.length ?? 0;
    this.#waiting.delete(address);
  }

  /** Goes on until the signal aborts. Never throws. */
  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        await this.#turn();
      } catch (error) {
        const reason = reasonOf(error);
        if (this.#signal.aborted) break;
        const isLimit = reason === 'http_429';
        this.#pause(isLimit ? 'rate_limited' : 'failed', reason, retryAfterOf(error));
        this.#tell(reason);
      }
    }
    this.#disconnect();
  }

  async #turn(): Promise<void> {
    if (this.#isPausing) return this.#sleep(this.#pausedUntil - performance.now());
    if (!this.isBusy) return this.#idle();
    const session = await this.#connected();
    if (this.#isSelfDue) await this.#lookAfterSelf(session);
    const [next] = this.#waiting;
    if (next) await this.#send(session, ...next);
  }

  async #send(session: Session, address: string, event: NostrEvent): Promise<void> {
    const { connection, authenticator } = session;
    const { timeoutMs } = this.#options;
    const outcome = await publishEvent(connection, authenticator, event, timeoutMs, this.#signal);
    if (outcome === 'aborted') return;
    const pause = PAUSE_AFTER[outcome];
    if (pause) this.#pause(pause, outcome);
    else if (this.#waiting.get(address) === event) this.#remove(address);
    this.#tell(outcome); // now, so that who hears it can ask for the state that it leads to
    if (pause) return;
    if (outcome === 'accepted') this.#strikes = 0;
    else
      this.#options.log.warn(
        { relay: this.#url, kind: event.kind, reason: outcome },
        'an event was refused by a relay that is published to',
      );
    await sleep(PACE_MS, undefined, { signal: this.#signal }).catch(() => {});
  }

  /** Waits for something to do; an idle connection is closed, since relays count them. */
  async #idle(): Promise<void> {
    const begun = performance.now();
    await this.#sleep(this.#session ? IDLE_MS : SELF_EVERY_MS);
    if (!this.isBusy && performance.now() - begun >= IDLE_MS) this.#disconnect();
  }

  /** Sleeps, and wakes early for a new event or the end. A pause is slept through: `#turn` begins it again. */
  async #sleep(ms: number): Promise<void> {
    if (this.#signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.min(ms, 2 ** 31 - 1));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }

  #pause(kind: PauseReason, reason: string, atLeastSeconds: number | null = null): void {
    const { first, longest } = this.#options.pauses?.[kind] ?? PAUSES[kind];
    const usual = Math.min(first * 2 ** Math.min(this.#strikes, 20), longest);
    const ms = Math.max(usual, (atLeastSeconds ?? 0) * 1000);
    this.#strikes += 1;
    this.#pausedUntil = performance.now() + ms;
    this.#pauseReason = reason;
    this.#disconnect();
    this.#options.log.warn(
      { relay: this.#url, reason, pauseMs: ms },
      'a relay that is published to pauses',
    );
  }

  #tell(outcome: string): void {
    this.#options.onOutcome(this.#url, outcome);
  }

  async #connected(): Promise<Session> {
    if (this.#session?.connection.isOpen) return this.#session;
    const connection = await this.#options.connect(this.#url, this.#signal);
    const authenticator = new Authenticator(connection, this.#options.secretKey);
    this.#session = { connection, authenticator };
    return this.#session;
  }

  #disconnect(): void {
    this.#session?.connection.close();
    this.#session = null;
  }

  /**
   * Publishes what the monitor says of itself where the relay does not have it. A profile or relay list that somebody
   * made with another program is never replaced: the key may be a person's.
   */
  async #lookAfterSelf(session: Session): Promise<void> {
    const templates = this.#options.self();
    const found = await this.#ownEvents(session, templates);
    this.#selfSeenAt = performance.now();
    if (found === null) this.#tell('self_unknown');
    for (const template of templates) {
      const isPersonal = PERSONAL_KINDS.has(template.kind);
      if (found === null && isPersonal) continue;
      const newest = (found ?? [])
        .filter(({ kind }) => kind === template.kind)
        .sort((a, b) => b.created_at - a.created_at)[0];
      if (newest && says(newest, template)) continue;
      if (newest && isPersonal && !isOurs(newest)) this.#leaveAlone(newest);
      else this.#addOwn(template, newest);
    }
  }

  #leaveAlone({ kind }: NostrEvent): void {
    this.#tell('left_alone');
    this.#options.log.warn(
      { relay: this.#url, kind },
      'this key has an event of that kind from another program: it is left as it is',
    );
  }

  /** A replaceable event must be newer than the one that it replaces. */
  #addOwn(template: EventTemplate, before: NostrEvent | undefined): void {
    const created_at = Math.max(template.created_at, (before?.created_at ?? 0) + 1);
    this.add(signed({ ...template, created_at }, this.#options.secretKey));
  }

  /** The events of our key that the relay has of those kinds; null when it does not say, after NIP-42 neither. */
  async #ownEvents(
    session: Session,
    templates: readonly EventTemplate[],
  ): Promise<NostrEvent[] | null> {
    const kinds = templates.map(({ kind }) => kind);
    const { timeoutMs } = this.#options;
    const { answer } = await askAuthenticated(
      () => this.#ask(session.connection, kinds),
      ({ end }) => end.type === 'closed' && refusalOf(end.text) === 'auth_required',
      { authenticator: session.authenticator, timeoutMs, signal: this.#signal },
    );
    return answer.events;
  }

  async #ask(connection: RelayConnection, kinds: readonly number[]) {
    const { publicKey, timeoutMs } = this.#options;
    const filter = { authors: [publicKey], kinds, limit: 20 };
    const limits = { ...SELF_LIMITS, idleTimeoutMs: timeoutMs, totalTimeoutMs: timeoutMs };
    const page = readPage(connection, filter, limits, this.#signal);
    const events: NostrEvent[] = [];
    for (;;) {
      const step = await page.next();
      if (step.done) {
        const isWhole = ['eose', 'finish', 'more'].includes(step.value.type);
        return { events: isWhole ? events : null, end: step.value };
      }
      for (const value of step.value) {
        const parsed = parseEvent(value);
        if (parsed.ok && parsed.event.pubkey === publicKey) events.push(parsed.event);
      }
    }
  }
}

function addressOf({ kind, tags }: NostrEvent): string {
  const d = kind >= 30_000 ? tags.find(([name]) => name === 'd')?.[1] : undefined;
  return `${kind}:${d ?? ''}`;
}

function says(event: NostrEvent, { content, tags }: EventTemplate): boolean {
  return event.content === content && JSON.stringify(event.tags) === JSON.stringify(tags);
}

function isOurs({ tags }: NostrEvent): boolean {
  return tags.some(([name, value]) => name === CLIENT_TAG[0] && value === CLIENT_TAG[1]);
}

/** One word, for counting. */
function reasonOf(error: unknown): string {
  return error instanceof Error && 'reason' in error ? String(error.reason) : 'unusable';
}
