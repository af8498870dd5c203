/** Reports to operators of relays: a POST to the URL that they gave when their relay goes down, and when it comes back. */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { HTTPAuth } from 'nostr-tools/kinds';
import type { RelayUrl } from '../../network/url.ts';
import { signEvent } from '../../nostr/sign.ts';
import { unixNow } from '../../nostr/unix-time.ts';
import type { Logger } from '../../telemetry/logger.ts';

/** Who is told of which relay. */
export interface Webhook {
  readonly relay: RelayUrl;
  readonly url: string;
}

/** A change of the state of a relay. */
export interface StateChange {
  readonly state: 'up' | 'down';
  /** When the first check found it so, Unix seconds. */
  readonly since: number;
  /** Why it is down, as a stable word; null of one that is up. */
  readonly reason: string | null;
}

export interface WebhooksOptions {
  readonly webhooks: readonly Webhook[];
  readonly secretKey: Uint8Array;
  /** Called with the outcome of each report: `delivered`, `failed` after all tries, or `replaced` by a newer one. */
  readonly onOutcome: (outcome: 'delivered' | 'failed' | 'replaced') => void;
  readonly log: Logger;
  /** Pauses before further tries, in milliseconds: for tests. */
  readonly pausesMs?: readonly number[];
}

/** Pauses before the second and further tries, in milliseconds. */
const PAUSES_MS = [10_000, 60_000, 300_000, 1_800_000, 7_200_000];
/** Longest time for one try, in milliseconds. */
const TRY_MS = 10_000;

/** Sends reports. Each webhook has at most one report under way: a newer change takes its place. */
export class Webhooks {
  readonly #options: WebhooksOptions;
  readonly #stopping = new AbortController();
  /** What is being sent, by the place of the webhook in the list. */
  readonly #sending = new Map<
    number,
    { readonly stop: AbortController; readonly ended: Promise<void> }
  >();

  constructor(options: WebhooksOptions) {
    this.#options = options;
  }

  /** Whether anybody is told of this relay. */
  isWatched(relay: RelayUrl): boolean {
    return this.#options.webhooks.some((webhook) => webhook.relay === relay);
  }

  /** Begins to tell everybody who is to know of it. */
  report(relay: RelayUrl, change: StateChange): void {
    for (const [place, webhook] of this.#options.webhooks.entries()) {
      if (webhook.relay !== relay || this.#stopping.signal.aborted) continue;
      const before = this.#sending.get(place);
      if (before) {
        before.stop.abort();
        this.#options.onOutcome('replaced');
      }
      const stop = new AbortController();
      const signal = AbortSignal.any([stop.signal, this.#stopping.signal]);
      const sent = (before?.ended ?? Promise.resolve()).then(() =>
        this.#send(webhook, change, signal),
      );
      const ended = sent.finally(() => {
        if (this.#sending.get(place)?.stop === stop) this.#sending.delete(place);
      });
      this.#sending.set(place, { stop, ended });
    }
  }

  /** Resolves when every report was delivered or given up, or after this many milliseconds. */
  async flush(withinMs: number): Promise<void> {
    const all = Promise.all([...this.#sending.values()].map(({ ended }) => ended));
    await Promise.race([all, sleep(withinMs, undefined, { ref: false })]);
  }

  /** Gives up what was not delivered. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all([...this.#sending.values()].map(({ ended }) => ended));
  }

  async #send({ relay, url }: Webhook, change: StateChange, signal: AbortSignal): Promise<void> {
    const { onOutcome, log, pausesMs = PAUSES_MS } = this.#options;
    const body = JSON.stringify({ relay, ...change });
    let problem = '';
    for (const pauseMs of [0, ...pausesMs]) {
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      problem = await this.#try(url, body, signal);
      if (problem === '') {
        log.info({ relay, state: change.state, webhook: hostOf(url) }, 'webhook called');
        return onOutcome('delivered');
      }
    }
    if (signal.aborted) return;
    log.warn({ relay, webhook: hostOf(url), reason: problem }, 'webhook given up');
    onOutcome('failed');
  }

  /** @returns what went wrong; empty: nothing */
  async #try(url: string, body: string, signal: AbortSignal): Promise<string> {
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          authorization: authorization(url, body, this.#options.secretKey),
          'content-type': 'application/json',
        },
        body,
        redirect: 'manual', // what the operator gave is told, and nobody else
        signal: AbortSignal.any([signal, AbortSignal.timeout(TRY_MS)]),
      });
      await response.body?.cancel();
      return response.ok ? '' : `HTTP ${response.status}`;
    } catch (error) {
      const { message, cause } = error as Error;
      return cause instanceof Error ? cause.message : message;
    }
  }
}

/** Of NIP-98: an event of the monitor's key with the URL, the method and the SHA-256 of the body. */
function authorization(url: string, body: string, secretKey: Uint8Array): string {
  const payload = createHash('sha256').update(body).digest('hex');
  const tags = [
    ['u', url],
    ['method', 'POST'],
    ['payload', payload],
  ];
  const event = signEvent({ kind: HTTPAuth, created_at: unixNow(), tags, content: '' }, secretKey);
  return `Nostr ${Buffer.from(JSON.stringify(event)).toString('base64')}`;
}

/** A path may be a secret: the log has the host alone. */
function hostOf(url: string): string {
  return new URL(url).host;
}
