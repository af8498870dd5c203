/**
 * Publishes the monitor's events to the relays that the operator configured. Each has its own queue and connection, so one
 * that is dead, slow or refuses does not delay the others.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, RelayList } from 'nostr-tools/kinds';
import type { EventTemplate } from 'nostr-tools/pure';
import { isOurFailure } from '../../network/attribute-failure.ts';
import { RelayError, retryAfterOf } from '../../network/relay-error.ts';
import type { RelayUrl } from '../../network/url.ts';
import { type NostrEvent, parseEvent } from '../../nostr/event.ts';
import { refusalOf } from '../../nostr/message.ts';
import { CLIENT_TAG } from '../../nostr/nip66-events.ts';
import { signEvent } from '../../nostr/sign.ts';
import { Authenticator, askAuthenticated } from '../../relay-client/authentication.ts';
import type { RelayConnection } from '../../relay-client/connection.ts';
import { type PublishOutcome, publishEvent } from '../../relay-client/publish.ts';
import { readPage } from '../../relay-client/subscription.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { EventQueue } from './event-queue.ts';

export interface PublisherOptions {
  readonly relays: readonly RelayUrl[];
  readonly secretKey: Uint8Array;
  /** The public key of `secretKey`, hex. */
  readonly publicKey: string;
  /** The events about the monitor itself, created when they may have to be published. */
  readonly self: () => readonly EventTemplate[];
  /** @throws RelayError, or another error because of which the relay cannot be used now */
  readonly connect: (url: RelayUrl, signal: AbortSignal) => Promise<RelayConnection>;
  /**
   * Attributes a missing answer, as `attributeFailure` does; to the relay unless given.
   *
   * @param sinceMs when what failed began, on the clock of `performance.now`
   */
  readonly attribute?: (
    url: RelayUrl,
    reason: 'timeout' | 'disconnected',
    sinceMs: number,
    signal: AbortSignal,
  ) => Promise<string>;
  /** Maximum wait for each answer of a relay, in milliseconds. */
  readonly timeoutMs: number;
  /** Called with the outcome of each attempt: a `PublishOutcome`, why there was no connection, or `dropped`. */
  readonly onOutcome: (url: RelayUrl, outcome: string) => void;
  readonly log: Logger;
  /** Replaces the default pauses, in milliseconds: for tests. */
  readonly pauses?: Readonly<Partial<Record<PauseReason, Pause>>>;
}

interface Pause {
  readonly first: number;
  readonly longest: number;
}

/** `ours`: our own network, or our Tor, failed; it pauses no longer from time to time, and not beyond the return. */
type PauseReason = 'rate_limited' | 'refused' | 'failed' | 'ours';

const MINUTE = 60_000;
/** First and maximum pause, in milliseconds; each further one in a row is twice as long. */
const PAUSES: Readonly<Record<PauseReason, Pause>> = {
  rate_limited: { first: 10_000, longest: 30 * MINUTE },
  refused: { first: 60 * MINUTE, longest: 24 * 60 * MINUTE },
  failed: { first: 5000, longest: 30 * MINUTE },
  ours: { first: 30_000, longest: 30_000 },
};
/** Outcomes after which the relay pauses and the event waits. Any other refusal concerns this event alone: it is dropped. */
const PAUSE_AFTER: Readonly<Partial<Record<PublishOutcome, PauseReason>>> = {
  rate_limited: 'rate_limited',
  auth_required: 'refused',
  restricted: 'refused',
  blocked: 'refused',
  timeout: 'failed',
  disconnected: 'failed',
};
/** Minimum time from one event to the next at one relay, in milliseconds. */
const PACE_MS = 50;
/** An idle connection is closed after this, in milliseconds. */
const IDLE_MS = 60_000;
/** Interval at which the events about the monitor itself are checked, in milliseconds. */
const SELF_INTERVAL_MS = 24 * 60 * MINUTE;
/** Profile and relay list (NIP-01, NIP-65): the operator's key may have them from another program. */
const PERSONAL_KINDS: ReadonlySet<number> = new Set([Metadata, RelayList]);
const SELF_LIMITS = { maxEvents: 20, maxBytes: 1024 * 1024 };

export class Publisher {
  readonly #targets: readonly PublishTarget[];
  readonly #stopping = new AbortController();
  readonly #running: Promise<unknown>;

  constructor(options: PublisherOptions) {
    this.#targets = options.relays.map(
      (url) => new PublishTarget(url, options, this.#stopping.signal),
    );
    this.#running = Promise.all(this.#targets.map((target) => target.run()));
  }

  /** Queues an event for every relay. It replaces a waiting event with the same address (NIP-01). */
  publish(event: NostrEvent): void {
    for (const target of this.#targets) target.add(event);
  }

  /** A part of our own network is back: relays that were not reached because of it are tried at once. */
  networkReturned(): void {
    for (const target of this.#targets) target.networkReturned();
  }

  /** Waiting events and pauses of each relay, as text for `/health`. */
  get state(): string {
    return this.#targets.map((target) => target.state).join('; ');
  }

  /** Resolves when every relay has all events or pauses, after `stop`, or after `withinMs` milliseconds. */
  async flush(withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (
      performance.now() < deadline &&
      !this.#stopping.signal.aborted &&
      this.#targets.some((target) => target.isBusy)
    )
      await sleep(20);
  }

  /** Closes every connection. Waiting events are dropped: the next check of their relay creates them again. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }
}

interface Session {
  readonly connection: RelayConnection;
  readonly authenticator: Authenticator;
}

/** The queue and the connection of one relay. */
class PublishTarget {
  readonly #url: RelayUrl;
  readonly #options: PublisherOptions;
  readonly #signal: AbortSignal;
  readonly #waiting = new EventQueue();
  #session: Session | null = null;
  #wake: (() => void) | null = null;
  #pausedUntil = 0;
  #pauseReason = '';
  #pausesInARow = 0;
  /** When the present attempt began, and when a part of our network was last back, by `performance.now`. */
  #attemptMs = 0;
  #networkReturnedMs = Number.NEGATIVE_INFINITY;
  #selfCheckedAt = Number.NEGATIVE_INFINITY;

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
    return performance.now() - this.#selfCheckedAt > SELF_INTERVAL_MS;
  }

  add(event: NostrEvent): void {
    const dropped = this.#waiting.add(event);
    for (let times = 0; times < dropped; times += 1) this.#report('dropped');
    this.#wake?.();
  }

  networkReturned(): void {
    this.#networkReturnedMs = performance.now();
    if (!this.#isPausing || !isOurFailure(this.#pauseReason)) return;
    this.#pausedUntil = 0;
    this.#wake?.();
  }

  /** Runs until the signal aborts. Never throws. */
  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        await this.#step();
      } catch (error) {
        const reason = reasonOf(error);
        if (this.#signal.aborted) break;
        if (isOurFailure(reason)) this.#pauseForOurs(reason);
        else {
          const isLimit = reason === 'http_429';
          this.#pause(isLimit ? 'rate_limited' : 'failed', reason, retryAfterOf(error));
        }
        this.#report(reason);
      }
    }
    this.#disconnect();
  }

  async #step(): Promise<void> {
    if (this.#isPausing) return this.#sleep(this.#pausedUntil - performance.now());
    if (!this.isBusy) return this.#idle();
    this.#attemptMs = performance.now();
    const session = await this.#connected();
    if (this.#isSelfDue) await this.#checkSelf(session);
    const next = this.#waiting.oldest;
    if (next) await this.#send(session, next);
  }

  async #send(session: Session, event: NostrEvent): Promise<void> {
    const { connection, authenticator } = session;
    const { timeoutMs } = this.#options;
    const outcome = await publishEvent(connection, authenticator, event, timeoutMs, this.#signal);
    if (outcome === 'aborted') return;
    await this.#throwIfOurs(outcome);
    const pause = PAUSE_AFTER[outcome];
    if (pause) this.#pause(pause, outcome);
    else this.#waiting.remove(event);
    this.#report(outcome); // after the change of state, which the callback may read
    if (pause) return;
    if (outcome === 'accepted') this.#pausesInARow = 0;
    else
      this.#options.log.warn(
        { relay: this.#url, kind: event.kind, reason: outcome },
        'a published event was refused',
      );
    await sleep(PACE_MS, undefined, { signal: this.#signal }).catch(() => {});
  }

  /** Waits for something to do; an idle connection is closed, because relays limit their number. */
  async #idle(): Promise<void> {
    const startedMs = performance.now();
    await this.#sleep(this.#session ? IDLE_MS : SELF_INTERVAL_MS);
    if (!this.isBusy && performance.now() - startedMs >= IDLE_MS) this.#disconnect();
  }

  /** Sleeps until a new event, `stop` or the end of `ms`. During a pause `#step` sleeps again after a new event. */
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
    const usual = Math.min(first * 2 ** Math.min(this.#pausesInARow, 20), longest);
    const ms = Math.max(usual, (atLeastSeconds ?? 0) * 1000);
    this.#pausesInARow += 1;
    this.#pausedUntil = performance.now() + ms;
    this.#pauseReason = reason;
    this.#disconnect();
    this.#options.log.warn(
      { relay: this.#url, reason, pauseMs: ms },
      'publishing to a relay pauses',
    );
  }

  /** Does not count against the relay. */
  #pauseForOurs(reason: string): void {
    const { first: ms } = this.#options.pauses?.ours ?? PAUSES.ours;
    const isBack = this.#networkReturnedMs >= this.#attemptMs;
    this.#pausedUntil = isBack ? 0 : performance.now() + ms;
    this.#pauseReason = reason;
    this.#disconnect();
    this.#options.log.debug({ relay: this.#url, reason }, 'publishing to a relay pauses');
  }

  /** @throws RelayError when an answer is missing because our own network, or our Tor, failed */
  async #throwIfOurs(outcome: string): Promise<void> {
    if (outcome !== 'timeout' && outcome !== 'disconnected') return;
    const { attribute = async () => outcome } = this.#options;
    const reason = await attribute(this.#url, outcome, this.#attemptMs, this.#signal);
    if (isOurFailure(reason))
      throw new RelayError(reason, `${this.#url}: not reached because of ${reason}`);
  }

  #report(outcome: string): void {
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
   * Publishes the events about the monitor itself if the relay does not have them. A profile or relay list from another
   * program is never replaced: the key may be a person's.
   */
  async #checkSelf(session: Session): Promise<void> {
    const templates = this.#options.self();
    const found = await this.#ownEvents(session, templates);
    this.#selfCheckedAt = performance.now();
    if (found === null) this.#report('self_unknown');
    for (const template of templates) {
      const isPersonal = PERSONAL_KINDS.has(template.kind);
      if (found === null && isPersonal) continue;
      const newest = (found ?? [])
        .filter(({ kind }) => kind === template.kind)
        .sort((a, b) => b.created_at - a.created_at)[0];
      if (newest && hasContentOf(newest, template)) continue;
      if (newest && isPersonal && !isOurs(newest)) this.#leaveAlone(newest);
      else this.#addOwn(template, newest);
    }
  }

  #leaveAlone({ kind }: NostrEvent): void {
    this.#report('left_alone');
    this.#options.log.warn(
      { relay: this.#url, kind },
      'an event of this key from another program is not replaced',
    );
  }

  /** Queues the event with a `created_at` after that of the event that it replaces. */
  #addOwn(template: EventTemplate, before: NostrEvent | undefined): void {
    const created_at = Math.max(template.created_at, (before?.created_at ?? 0) + 1);
    this.add(signEvent({ ...template, created_at }, this.#options.secretKey));
  }

  /** Our events of those kinds at the relay; null if it does not answer the request completely, even after NIP-42. */
  async #ownEvents(
    session: Session,
    templates: readonly EventTemplate[],
  ): Promise<NostrEvent[] | null> {
    const kinds = templates.map(({ kind }) => kind);
    const { timeoutMs } = this.#options;
    const { answer } = await askAuthenticated(
      () => this.#ask(session.connection, kinds),
      ({ end }) => end.type === 'closed' && refusalOf(end.text) === 'auth_required',
      {
        ...{ authenticator: session.authenticator, timeoutMs, signal: this.#signal },
        isSilent: ({ end }) => end.type === 'timeout',
      },
    );
    if (answer.events === null) await this.#throwIfOurs(answer.end.type);
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

function hasContentOf(event: NostrEvent, { content, tags }: EventTemplate): boolean {
  return event.content === content && JSON.stringify(event.tags) === JSON.stringify(tags);
}

function isOurs({ tags }: NostrEvent): boolean {
  return tags.some(([name, value]) => name === CLIENT_TAG[0] && value === CLIENT_TAG[1]);
}

/** The reason as one word, for counting. */
function reasonOf(error: unknown): string {
  return error instanceof Error && 'reason' in error ? String(error.reason) : 'unusable';
}
