import { randomBytes } from 'node:crypto';
import type { CapabilitiesData } from '../nostr/check-result.ts';
import type { EventFilter, ReqFilter } from '../nostr/filter.ts';
import { isFilterRefusal } from '../nostr/filter-refusal.ts';
import { parseRelayMessage, refusalOf } from '../nostr/message.ts';
import { isAboutReading } from '../nostr/notice.ts';
import type { RelayConnection } from '../relay/connection.ts';
import { deadline } from '../relay/deadline.ts';
import { questionsOf, reasonOfEnd } from '../relay/first-answer.ts';
import { LocalSetBuilder } from '../relay/local-set.ts';
import { reconcileWindow } from '../relay/reconcile.ts';
import { type PageEnd, readPage } from '../relay/subscription.ts';
import { type CheckContext, failure } from './context.ts';
import { type Note, Sample, wordToSearch } from './sample.ts';

/** So many events are asked for to find the relay's cap: those of most relays are at or below it. */
export const LIMIT_TRIED = 1000;
/** Asked for where the relay refuses that, and its document names no limit. */
const LIMIT_IF_REFUSED = 500;
/** Small events, and plenty of them on most relays. */
const SAMPLE_KINDS = [1, 7];
const MAX_BYTES = 4 * 1024 * 1024;
/** After so many deadlines nothing more is asked, though each answer came in time. */
const MAX_DEADLINES = 3;
/** A relay that was going to answer COUNT has done so this long after it answered what was asked later. */
const COUNT_GRACE_MS = 2000;

/**
 * Measures what a relay can do, whatever its document claims: at most eight questions (a few more where it refuses filters for their shape) on the connection that is open,
 * one after the other. Each answer is held against an event that the relay itself has shown:
 * - `maxLimit`: how many events come where 1,000 are asked for, if the relay has older ones too;
 * - NIP-77: a reconciliation of one second lists an event that the relay has shown there;
 * - NIP-45: COUNT knows that event;
 * - NIP-50: a word of a note finds something, a word that nobody wrote finds nothing;
 * - NIP-67: EOSE says whether that was all, when it was all.
 *
 * Where the relay wants us to wait, what is left of it stays null.
 *
 * @param claimedLimit `limitation.max_limit` of the document, or null
 * @throws RelayError when the first question is refused, with the reasons of `checkRead`; or `disconnected`.
 */
export async function checkCapabilities(
  connection: RelayConnection,
  ctx: CheckContext,
  claimedLimit: number | null,
): Promise<CapabilitiesData> {
  const relay = new Questions(connection, ctx);
  const { sample, maxLimit } = await measureLimit(relay, claimedLimit);
  const nip45 = await measureNip45(relay, sample);
  const nip50 = await measureNip50(relay, sample);
  const nip77 = await measureNip77(relay, sample); // last: who does not know it complains of its close, too
  if (!connection.isOpen) throw failure('disconnected');
  return { nip45, nip50, nip67: relay.nip67, nip77, maxLimit };
}

interface Page {
  readonly notes: readonly Note[];
  readonly end: PageEnd;
}

/** Asks one thing after another, until the relay has had enough. */
class Questions {
  /** Whether an EOSE came with a hint; null before one came that should have had it. */
  nip67: boolean | null = null;
  /** What the sample is taken with. */
  sampleFilter: EventFilter = { kinds: SAMPLE_KINDS };
  readonly connection: RelayConnection;
  readonly ctx: CheckContext;
  #isUnwelcome = false;
  readonly #until: number;

  constructor(connection: RelayConnection, ctx: CheckContext) {
    this.connection = connection;
    this.ctx = ctx;
    this.#until = performance.now() + MAX_DEADLINES * ctx.timeoutMs;
  }

  get mayAsk(): boolean {
    if (this.#isUnwelcome || performance.now() > this.#until) return false;
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

  /** @param isEmpty nothing came, so that the page was certainly complete if it was one */
  #learn(end: PageEnd, isEmpty: boolean): void {
    if (end.type === 'finish' || end.type === 'more') this.nip67 = true;
    else if (end.type === 'eose' && isEmpty) this.nip67 ??= false;
    else if (end.type === 'closed') this.heardRefusal(end.text);
    else if (end.type === 'timeout' && isEmpty) this.#isUnwelcome = true; // it is not going to be faster
  }

  /** @returns whether it is we who are refused, and not what was asked. */
  heardRefusal(text: string): boolean {
    const isAboutUs = ['rate_limited', 'auth_required', 'restricted', 'blocked'].includes(
      refusalOf(text),
    );
    this.#isUnwelcome ||= isAboutUs;
    return isAboutUs;
  }
}

interface Limit {
  /** Newest first. */
  readonly sample: readonly Note[];
  readonly maxLimit: number | null;
}

async function measureLimit(relay: Questions, claimedLimit: number | null): Promise<Limit> {
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
  if (reason !== null) throw failure(reason);
  if (sample.length >= limit) return { sample, maxLimit: limit };
  if (!oldest || isPart || end.type === 'finish') return { sample, maxLimit: null };
  const isCut = end.type === 'more' || (await hasOlder(relay, oldest.createdAt));
  return { sample, maxLimit: isCut ? sample.length : null };
}

/** Asked with in turn, where the relay refuses the kinds of the sample for the shape of the filter. */
function otherSamples({ eventFilter = {} }: CheckContext): EventFilter[] {
  return questionsOf(eventFilter).flatMap(({ asked, filter }) =>
    asked === 'bare' ? [] : [filter],
  );
}

function refusesFilter({ end }: Page): boolean {
  return end.type === 'closed' && isFilterRefusal(refusalOf(end.text));
}

function isSensible(limit: number | null): limit is number {
  return limit !== null && limit > 0 && limit < LIMIT_TRIED;
}

async function hasOlder(relay: Questions, createdAt: number): Promise<boolean> {
  if (!relay.mayAsk || createdAt <= 0) return false;
  const { notes } = await relay.read({
    ...relay.sampleFilter,
    ...{ until: createdAt - 1, limit: 1 },
  });
  return notes.some((note) => note.createdAt < createdAt);
}

async function measureNip77(relay: Questions, sample: readonly Note[]): Promise<boolean | null> {
  if (!relay.mayAsk) return null;
  const { timeoutMs, signal, now } = relay.ctx;
  const known = sample.at(-1);
  const second = known?.createdAt ?? Math.floor(now() / 1000);
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
  relay.heardRefusal(end.text);
  return null;
}

/** How relays complain of a message that they do not know. */
const COMPLAINT =
  /\bcount\b|unknown|unsupported|not supported|unrecogni[sz]ed|invalid|bad (msg|message|command)|parse/i;

async function measureNip45(relay: Questions, sample: readonly Note[]): Promise<boolean | null> {
  if (!relay.mayAsk) return null;
  const known = sample.at(-1);
  const answer = new CountAnswer(relay, known !== undefined);
  try {
    relay.connection.send(['COUNT', answer.id, known ? { ids: [known.id] } : relay.sampleFilter]);
    // What is asked after it is answered after it: so a relay that says nothing to COUNT is not waited for.
    const { end } = await relay.read({ ids: [randomBytes(32).toString('hex')], limit: 1 });
    if (reasonOfEnd(end) !== null) return answer.verdict ?? null;
    if (!answer.isComplaint) await answer.within(Math.min(COUNT_GRACE_MS, relay.ctx.timeoutMs));
    return answer.verdict === undefined ? false : answer.verdict;
  } finally {
    answer.stopListening();
  }
}

/** What the relay says to one COUNT. */
class CountAnswer {
  readonly id = randomBytes(8).toString('hex');
  /** Undefined while it has said nothing that decides it. */
  verdict: boolean | null | undefined;
  /** It complained of a message, and names none. */
  isComplaint = false;
  readonly stopListening: () => void;
  readonly #relay: Questions;
  readonly #mustFind: boolean;
  #wake = () => {};

  constructor(relay: Questions, mustFind: boolean) {
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
      if (isAboutReading(text, this.id) && this.#relay.heardRefusal(text)) this.#decide(null);
      else this.isComplaint ||= COMPLAINT.test(text);
    } else if ('subscription' in message && message.subscription === this.id) {
      if (message.type === 'COUNT') this.#decide(this.#mustFind ? message.count > 0 : true);
      else if (message.type === 'CLOSED')
        this.#decide(this.#relay.heardRefusal(message.text) ? null : false);
    }
  }

  #decide(verdict: boolean | null): void {
    if (this.verdict === undefined) this.verdict = verdict;
    this.#wake();
  }
}

async function measureNip50(relay: Questions, sample: readonly Note[]): Promise<boolean | null> {
  const word = wordToSearch(sample);
  if (word === null || !relay.mayAsk) return null;
  const nonsense = randomBytes(12).toString('hex').replace(/\d/g, 'x');
  const nothing = await relay.read({ kinds: [1], search: nonsense, limit: 1 });
  if (!isAnswer(nothing, relay))
    return relay.mayAsk && nothing.end.type === 'closed' ? false : null;
  if (nothing.notes.length > 0) return false; // it gives what it has, whatever is searched for
  const found = await relay.read({ kinds: [1], search: word, limit: 1 });
  return isAnswer(found, relay) ? found.notes.length > 0 : null;
}

function isAnswer({ end }: Page, relay: Questions): boolean {
  return relay.mayAsk && (end.type === 'overflow' || reasonOfEnd(end) === null);
}
