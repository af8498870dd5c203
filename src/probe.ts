import type { NostrEvent } from './nostr/event.ts';
import { parseRelayMessage, refusalOf } from './nostr/message.ts';
import type { Nip11Document } from './nostr/nip11.ts';
import {
  makeTestEvent,
  type Nip66Result,
  refusalOfOk,
  type StepResult,
  toNip66Result,
} from './nostr/nip66.ts';
import { Authenticator } from './relay/authentication.ts';
import {
  asRelayError,
  type connectRelay,
  type RelayConnection,
  type TorProxy,
} from './relay/connection.ts';
import type { fetchNip11 } from './relay/nip11-fetch.ts';
import { type PageEnd, readPage } from './relay/subscription.ts';
import type { RelayAddress } from './relay/url.ts';

/** One check of one relay, good or bad. */
export interface Snapshot {
  readonly relay: RelayAddress;
  /** When the check began, unix seconds. */
  readonly generatedAt: number;
  readonly nip11: Nip11Document | null;
  /** Why there is no document, one stable word; null when there is one. */
  readonly nip11Reason: string | null;
  readonly nip66: Nip66Result;
}

export interface ProbeContext {
  /** Signs the test event, and answers the challenge of a relay that asks who reads (NIP-42). */
  readonly secretKey: Uint8Array;
  /** Deadline of each step (document, open, read, write), in milliseconds. */
  readonly timeoutMs: number;
  readonly allowPrivate: boolean;
  readonly torProxy: TorProxy | null;
  readonly signal: AbortSignal;
  readonly connect: typeof connectRelay;
  readonly fetchNip11: typeof fetchNip11;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/**
 * Checks one relay: its NIP-11 document, and over one WebSocket whether it opens, answers a REQ and takes an
 * event (NIP-66). Document and connection are asked for at the same time, so a dead relay costs one deadline;
 * the write waits for the document, because that tells how much proof of work the relay wants. A step that
 * fails does not cost the others.
 *
 * The whole check takes at most three deadlines, two more at a relay that asks for NIP-42, and 5 s of proof of work;
 * the connection is closed at its end.
 *
 * @throws the signal's reason when it aborts, and nothing else: a relay that fails is a snapshot too.
 */
export async function probeRelay(relay: RelayAddress, ctx: ProbeContext): Promise<Snapshot> {
  ctx.signal.throwIfAborted();
  const generatedAt = Math.floor(ctx.now() / 1000);
  const fetching = fetchDocument(relay, ctx);
  const nip66 = await probeConnection(relay, ctx, fetching);
  const { document, reason } = await fetching;
  ctx.signal.throwIfAborted();
  return { relay, generatedAt, nip11: document, nip11Reason: reason, nip66 };
}

interface Fetched {
  readonly document: Nip11Document | null;
  readonly reason: string | null;
}

/** Never rejects, so that nobody has to wait for it; an abort is noticed by `probeRelay`. */
async function fetchDocument(relay: RelayAddress, ctx: ProbeContext): Promise<Fetched> {
  try {
    const result = await ctx.fetchNip11(relay.url, stepOptions(ctx));
    return result.ok
      ? { document: result.document, reason: null }
      : { document: null, reason: result.reason };
  } catch (error) {
    return { document: null, reason: asRelayError(error, relay.url).reason };
  }
}

async function probeConnection(
  relay: RelayAddress,
  ctx: ProbeContext,
  fetching: Promise<Fetched>,
): Promise<Nip66Result> {
  const started = performance.now();
  let connection: RelayConnection;
  try {
    connection = await ctx.connect(relay.url, stepOptions(ctx));
  } catch (error) {
    return toNip66Result(failed(asRelayError(error, relay.url).reason));
  }
  const authenticator = new Authenticator(connection, ctx.secretKey);
  try {
    const open = { ok: true, rtt: performance.now() - started } as const;
    const read = await checkRead(connection, authenticator, ctx);
    const write = await checkWrite(connection, ctx, fetching);
    return toNip66Result(open, read, write);
  } finally {
    connection.close();
  }
}

function stepOptions({ timeoutMs, allowPrivate, torProxy, signal }: ProbeContext) {
  return { timeoutMs, allowPrivate, torProxy, signal };
}

/** Far more than one event with `limit: 1` needs; a relay that ignores the limit is cut here. */
const READ_LIMITS = { maxEvents: 500, maxBytes: 16 * 1024 * 1024 };

/**
 * Readable is a relay that answers a REQ with an event or with EOSE: an empty one is. One that wants to know who
 * reads is told (NIP-42), as a visit does, and asked once more.
 */
async function checkRead(
  connection: RelayConnection,
  authenticator: Authenticator,
  ctx: ProbeContext,
): Promise<StepResult> {
  const read = await readOnce(connection, ctx);
  if (read.ok || read.reason !== 'auth_required') return read;
  const answer = await authenticator.authenticate(ctx.timeoutMs, ctx.signal);
  if (answer === 'accepted') return readOnce(connection, ctx);
  return answer === 'refused' ? failed('restricted') : read;
}

async function readOnce(connection: RelayConnection, ctx: ProbeContext): Promise<StepResult> {
  const limits = { ...READ_LIMITS, idleTimeoutMs: ctx.timeoutMs, totalTimeoutMs: ctx.timeoutMs };
  const started = performance.now();
  const page = readPage(connection, { limit: 1 }, limits, ctx.signal);
  try {
    for (;;) {
      const step = await page.next();
      const rtt = performance.now() - started;
      if (step.done) return judgeEnd(step.value, rtt);
      if (step.value.some((event) => typeof event === 'object' && event !== null))
        return { ok: true, rtt };
    }
  } finally {
    await page.return({ type: 'aborted' });
  }
}

function judgeEnd(end: PageEnd, rtt: number): StepResult {
  switch (end.type) {
    case 'finish':
    case 'more':
    case 'eose':
      return { ok: true, rtt };
    case 'closed': {
      const refusal = refusalOf(end.text);
      return failed(refusal === 'other' ? 'closed' : refusal);
    }
    default:
      return failed(end.type);
  }
}

/** Writable is a relay that says OK to our test event. Whether it keeps the event is its own affair. */
async function checkWrite(
  connection: RelayConnection,
  ctx: ProbeContext,
  fetching: Promise<Fetched>,
): Promise<StepResult> {
  const minPow = (await fetching).document?.limitation?.min_pow_difficulty ?? 0;
  if (!connection.isOpen) return failed('disconnected');
  const createdAt = Math.floor(ctx.now() / 1000);
  const event = await makeTestEvent(ctx.secretKey, { createdAt, minPow, signal: ctx.signal });
  return event ? publish(connection, event, ctx) : failed('pow');
}

/** After a NOTICE that refuses, a relay that was going to say OK has done so by then. */
const REFUSAL_GRACE_MS = 2000;

/** Sends an event and waits for its OK, the end of the connection, the deadline or an abort. */
function publish(
  connection: RelayConnection,
  event: NostrEvent,
  ctx: ProbeContext,
): Promise<StepResult> {
  return new Promise((resolve) => {
    const started = performance.now();
    const finish = (reason: string | null) => {
      clearTimeout(timer);
      stopListening();
      ctx.signal.removeEventListener('abort', onAbort);
      resolve(reason === null ? { ok: true, rtt: performance.now() - started } : failed(reason));
    };
    const onAbort = () => finish('aborted');
    const stopListening = connection.onMessage((data) => {
      const message = parseRelayMessage(data);
      if (message.type === 'OK' && message.id === event.id) {
        finish(refusalOfOk(message.accepted, message.text));
      } else if (message.type === 'NOTICE' && refusalOf(message.text) !== 'other') {
        clearTimeout(timer); // NOTICE names no event: wait a little for the OK, then believe it
        timer = setTimeout(
          () => finish(refusalOf(message.text)),
          Math.min(REFUSAL_GRACE_MS, ctx.timeoutMs),
        );
      }
    });
    let timer = setTimeout(() => finish('timeout'), ctx.timeoutMs);
    ctx.signal.addEventListener('abort', onAbort, { once: true });
    void connection.closed.then(() => finish('disconnected'));
    if (ctx.signal.aborted) onAbort();
    else connection.send(['EVENT', event]);
  });
}

function failed(reason: string): StepResult {
  return { ok: false, reason };
}
