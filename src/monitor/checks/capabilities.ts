import { randomBytes } from 'node:crypto';
import { deadline } from '../../network/deadline.ts';
import { LocalSetBuilder } from '../../nip77/local-set.ts';
import { reconcileWindow } from '../../nip77/reconcile.ts';
import type { CapabilitiesData } from '../../nostr/check-result.ts';
import type { EventFilter, ReqFilter } from '../../nostr/filter.ts';
import { isFilterRefusal } from '../../nostr/filter-refusal.ts';
import { isClientRefusal, parseRelayMessage, refusalOf } from '../../nostr/message.ts';
import { isAboutReading } from '../../nostr/notice.ts';
import type { RelayConnection } from '../../relay-client/connection.ts';
import { filterVariants, reasonOfEnd } from '../../relay-client/first-answer.ts';
import { type PageEnd, readPage } from '../../relay-client/subscription.ts';
import { type CheckContext, CheckError } from './context.ts';
import { type Note, Sample, wordToSearch } from './sample.ts';

/** `limit` of the request that finds the largest page of a relay: most relays send at most this many. */
export const LIMIT_TRIED = 1000;
/** `limit` if the relay refuses that one and its document names none. */
const LIMIT_IF_REFUSED = 500;
/** Kinds with small events, of which most relays have many. */
const SAMPLE_KINDS = [1, 7];
const MAX_BYTES = 4 * 1024 * 1024;
/** No further request is sent after this many deadlines, even if each answer came in time. */
const MAX_DEADLINES = 3;
/** Maximum wait for the answer to COUNT after the answer to a later request, in milliseconds. */
const COUNT_GRACE_MS = 2000;

/**
 * Measures what a relay can do, whatever its document claims: at most eight requests (a few more if it refuses filters for
 * their shape), one after the other on the open connection. Each answer is compared with an event that the relay has sent:
 * - `maxLimit`: the number of events sent for `limit: 1000`, if the relay has older ones too;
 * - NIP-77: a reconciliation of one second lists an event that the relay has sent for that second;
 * - NIP-45: COUNT of such an event is not 0;
 * - NIP-50: a search for a word of a note finds something, a search for a random word finds nothing;
 * - NIP-67: an EOSE says whether the page was complete.
 *
 * When the relay rate-limits or refuses us, the remaining capabilities are null.
 *
 * @param claimedLimit `limitation.max_limit` of the document, or null
 * @throws CheckError when the first request is refused, with the reasons of `checkRead`; or `disconnected`
 */
export async function checkCapabilities(
  connection: RelayConnection,
  ctx: CheckContext,
  claimedLimit: number | null,
): Promise<CapabilitiesData> {
  const relay = new Measurement(connection, ctx);
  const { sample, maxLimit } = await measureLimit(relay, claimedLimit);
  const nip45 = await measureNip45(relay, sample);
  const nip50 = await measureNip50(relay, sample);
  const nip77 = await measureNip77(relay, sample); // last: relays without it answer NEG-CLOSE by a NOTICE too
  if (!connection.isOpen) throw new CheckError('disconnected');
  return { nip45, nip50, nip67: relay.nip67, nip77, maxLimit };
}

interface Page {
  readonly notes: readonly Note[];
  readonly end: PageEnd;
}

/** Sends one request after another, until the relay refuses us or the time is over. */
class Measurement {
  /** Whether an EOSE had a hint of NIP-67; null until an EOSE came that should have had one. */
  nip67: boolean | null = null;
  /** The filter of the sample. */
  sampleFilter: EventFilter = { kinds: SAMPLE_KINDS };
  readonly connection: RelayConnection;
  readonly ctx: CheckContext;
  #isOver = false;
  readonly #until: number;

  constructor(connection: RelayConnection, ctx: CheckContext) {
    this.connection = connection;
    this.ctx = ctx;
    this.#until = performance.now() + MAX_DEADLINES * ctx.timeoutMs;
  }

  get mayAsk(): boolean {
    if (this.#isOver || performance.now() > this.#until) return false;
    return this.connection.isOpen && !this.ctx.signal.aborted;
  }

  async read(filter: ReqFilter & { limit: number }): Promise<Page> {
    const { timeoutMs, signal } = this.ctx;
    const limits = {
      ...{ maxEvents: filter.limit + 100, maxBytes: MAX_BYTES },
      ...{ idleTimeoutMs: timeoutMs, totalTimeoutMs: timeoutMs },
    };
    const page = readPage(this.connection, filter, limits, signal);
    const sample = new Sample();
    for (;;) {
      const step = await page.next();
      if (!step.done) {
        sample.add(step.value);
        continue;
      }
      const notes = sample.newestFirst();
      this.#learn(step.value, notes.length === 0);
      return { notes, end: step.value };
    }
  }

  /** @param isEmpty whether no event came: an EOSE without one ends a complete page */
  #learn(end: PageEnd, isEmpty: boolean): void {
    if (end.type === 'finish' || end.type === 'more') this.nip67 = true;
    else if (end.type === 'eose' && isEmpty) this.nip67 ??= false;
    else if (end.type === 'closed') this.noteRefusal(end.text);
    else if (end.type === 'timeout' && isEmpty) this.#isOver = true; // further requests would time out too
  }

  /** @returns whether the refusal concerns the client and not the request: then no further request is sent */
  noteRefusal(text: string): boolean {
    const isOfClient = isClientRefusal(refusalOf(text));
    this.#isOver ||= isOfClient;
    return isOfClient;
  }
}

interface Limit {
  /** Newest first. */
  readonly sample: readonly Note[];
  readonly maxLimit: number | null;
}

async function measureLimit(relay: Measurement, claimedLimit: number | null): Promise<Limit> {
  let limit = LIMIT_TRIED;
  let page = await relay.read({ ...relay.sampleFilter, limit });
  for (const filter of otherSamples(relay.ctx)) {
    if (!refusesFilter(page) || !relay.mayAsk) break;
    relay.sampleFilter = filter;
    page = await relay.read({ ...filter, limit });
  }
  if (page.end.type === 'closed' && !refusesFilter(page) && relay.mayAsk) {
    limit = isSensible(claimedLimit) ? claimedLimit : LIMIT_IF_REFUSED;
    page = await relay.read({ ...relay.sampleFilter, limit });
  }
  const { notes: sample, end } = page;
  const oldest = sample.at(-1);
  const isPart = end.type === 'overflow' || (end.type === 'timeout' && oldest !== undefined);
  const reason = isPart ? null : reasonOfEnd(end);
  if (reason !== null) throw new CheckError(reason);
  if (sample.length >= limit) return { sample, maxLimit: limit };
  if (!oldest || isPart || end.type === 'finish') return { sample, maxLimit: null };
  const isCut = end.type === 'more' || (await hasOlder(relay, oldest.createdAt));
  return { sample, maxLimit: isCut ? sample.length : null };
}

/** Filters that are tried in turn if the relay refuses that of the sample for its shape. */
function otherSamples({ eventFilter = {} }: CheckContext): EventFilter[] {
  return filterVariants(eventFilter).flatMap(({ asked, filter }) =>
    asked === 'bare' ? [] : [filter],
  );
}

function refusesFilter({ end }: Page): boolean {
  return end.type === 'closed' && isFilterRefusal(refusalOf(end.text));
}

function isSensible(limit: number | null): limit is number {
  return limit !== null && limit > 0 && limit < LIMIT_TRIED;
}

async function hasOlder(relay: Measurement, createdAt: number): Promise<boolean> {
  if (!relay.mayAsk || createdAt <= 0) return false;
  const { notes } = await relay.read({
    ...relay.sampleFilter,
    ...{ until: createdAt - 1, limit: 1 },
  });
  return notes.some((note) => note.createdAt < createdAt);
}

async function measureNip77(relay: Measurement, sample: readonly Note[]): Promise<boolean | null> {
  if (!relay.mayAsk) return null;
  const { timeoutMs, signal, now } = relay.ctx;
  const known = sample.at(-1);
  const second = known?.createdAt ?? now();
  const { end, need } = await reconcileWindow(
    relay.connection,
    relay.sampleFilter,
    { since: second, until: second },
    new LocalSetBuilder(0).build(),
    {
      ...{ idleTimeoutMs: timeoutMs, totalTimeoutMs: 2 * timeoutMs, maxRounds: 4 },
      ...{ maxNeed: 10_000, maxBytes: MAX_BYTES, frameSizeLimit: 60_000 },
    },
    signal,
  );
  if (end.type === 'done') return known ? need.includes(known.id) : true;
  if (end.type === 'unsupported') return false;
  if (end.type === 'failed' && end.reason === 'garbage') return false;
  if (end.type === 'failed' && end.reason === 'neg_err') return false;
  relay.noteRefusal(end.text);
  return null;
}

/** Texts of NOTICE with which relays reject a message of an unknown type. */
const COMPLAINT =
  /\bcount\b|unknown|unsupported|not supported|unrecogni[sz]ed|invalid|bad (msg|message|command)|parse/i;

async function measureNip45(relay: Measurement, sample: readonly Note[]): Promise<boolean | null> {
  if (!relay.mayAsk) return null;
  const known = sample.at(-1);
  const answer = new CountAnswer(relay, known !== undefined);
  try {
    relay.connection.send(['COUNT', answer.id, known ? { ids: [known.id] } : relay.sampleFilter]);
    // Relays answer in order: the answer to a later request ends the wait for one to COUNT.
    const { end } = await relay.read({ ids: [randomBytes(32).toString('hex')], limit: 1 });
    if (reasonOfEnd(end) !== null) return answer.verdict ?? null;
    if (!answer.isComplaint) await answer.within(Math.min(COUNT_GRACE_MS, relay.ctx.timeoutMs));
    return answer.verdict === undefined ? false : answer.verdict;
  } finally {
    answer.stopListening();
  }
}

/** The answer to one COUNT. */
class CountAnswer {
  readonly id = randomBytes(8).toString('hex');
  /** Undefined until a message decides it. */
  verdict: boolean | null | undefined;
  /** Whether a NOTICE rejected a message without naming it. */
  isComplaint = false;
  readonly stopListening: () => void;
  readonly #relay: Measurement;
  readonly #mustFind: boolean;
  #wake = () => {};

  constructor(relay: Measurement, mustFind: boolean) {
    this.#relay = relay;
    this.#mustFind = mustFind;
    this.stopListening = relay.connection.onMessage((data) => this.#receive(data));
  }

  async within(timeoutMs: number): Promise<void> {
    if (this.verdict !== undefined) return;
    const decided = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const cancel = deadline(timeoutMs, this.#wake);
    await decided;
    cancel();
  }

  #receive(data: string): void {
    const message = parseRelayMessage(data);
    if (message.type === 'NOTICE') {
      const { text } = message;
      if (isAboutReading(text, this.id) && this.#relay.noteRefusal(text)) this.#decide(null);
      else this.isComplaint ||= COMPLAINT.test(text);
    } else if ('subscription' in message && message.subscription === this.id) {
      if (message.type === 'COUNT') this.#decide(this.#mustFind ? message.count > 0 : true);
      else if (message.type === 'CLOSED')
        this.#decide(this.#relay.noteRefusal(message.text) ? null : false);
    }
  }

  #decide(verdict: boolean | null): void {
    if (this.verdict === undefined) this.verdict = verdict;
    this.#wake();
  }
}

async function measureNip50(relay: Measurement, sample: readonly Note[]): Promise<boolean | null> {
  const word = wordToSearch(sample);
  if (word === null || !relay.mayAsk) return null;
  const nonsense = randomBytes(12).toString('hex').replace(/\d/g, 'x');
  const nothing = await relay.read({ kinds: [1], search: nonsense, limit: 1 });
  if (!isAnswer(nothing, relay))
    return relay.mayAsk && nothing.end.type === 'closed' ? false : null;
  if (nothing.notes.length > 0) return false; // it ignores `search`
  const found = await relay.read({ kinds: [1], search: word, limit: 1 });
  return isAnswer(found, relay) ? found.notes.length > 0 : null;
}

function isAnswer({ end }: Page, relay: Measurement): boolean {
  return relay.mayAsk && (end.type === 'overflow' || reasonOfEnd(end) === null);
}
