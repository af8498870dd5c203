import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { RelayState } from '../nostr/relay-state.ts';
import type { StopReason } from '../nostr/stop-reason.ts';

/** A figure of `/health` that has no metric of its own: Prometheus gets it as `bigbrotr_figures_total{figure}`. */
type Figure =
  | 'quarantined'
  | 'relays_lost'
  | `relays_${RelayState | 'openable' | 'writable'}`
  | 'nip11_documents'
  | `no_nip11_${string}`
  | 'candidates'
  | 'relays_found'
  | 'events_scanned'
  | 'monitor_reports'
  | `names_${string}`
  | 'days_counted';

/** What is added to figures, by their name. */
export type Figures = { readonly [name in Figure]?: number };

/** What `/health` calls the visits of a service, which Prometheus has as `bigbrotr_relays_visited_total{outcome}`. */
export interface HealthNames {
  /** The name of all visits together. */
  readonly visits?: string;
  readonly outcomes?: Readonly<Record<string, string>>;
  /** The names of visits by the reason why they stopped. */
  readonly stops?: { readonly [reason in StopReason]?: string };
}

/**
 * Everything that a service counts, each figure once: for Prometheus, and for `counts` of `/health`. Dashboards rely on
 * the names: they do not change meaning.
 */
export interface Metrics {
  /** One visit or probe of a relay that ended, with a short stable word for how. */
  relayVisited(outcome: string): void;
  /** Why a visit did not get all that it asked for. */
  visitStopped(reason: StopReason): void;
  eventsStored(count: number): void;
  sightingsStored(count: number): void;
  eventsInvalid(reason: string, count?: number): void;
  bytesReceived(bytes: number): void;
  relaysInProgress(count: number): void;
  /** Claims that this process holds now. */
  claimsHeld(count: number): void;
  /** A claim that another process has taken over. @param work visit, check or try */
  claimLost(work: string): void;
  /** Whether a part of our own network works: `dns`, `ipv4` or `ipv6`. */
  networkWorks(part: string, works: boolean): void;
  /** Bytes that are free on the disk of the database. */
  databaseDiskFree(bytes: number): void;
  roundFinished(seconds: number): void;
  /** How far a reader of the journal lags behind, in seconds. */
  journalLag(reader: string, seconds: number): void;
  /** Days that wait for a recount, and the age of the oldest change that is not counted, in seconds. */
  figuresWaiting(days: number, behindSeconds: number): void;
  /** One HTTP request that was answered. @param route its pattern, never the path itself @param seconds to its last byte */
  requestAnswered(route: string, status: number, seconds: number): void;
  /** Answers that are being streamed now. */
  streamsOpen(count: number): void;
  /** Clients of the relay that are connected now, and their subscriptions. */
  relayClients(clients: number, subscriptions: number): void;
  /** A message of a client. @param type its first element, `INVALID` for what is none */
  relayMessage(type: string): void;
  /** Events that were sent to clients of the relay. */
  relayEventsSent(count: number): void;
  /** A client that was refused or disconnected, with a short stable word for why. */
  relayClientEnded(reason: string): void;
  /** One attempt to publish an event that ended, with a short stable word for how. */
  eventPublished(outcome: string): void;
  /** Adds to figures that have no metric of their own. */
  count(figures: Figures): void;
  /** The figures of `/health` by name; what was never counted is absent. */
  counts(): Promise<Record<string, number>>;
  /** The text that Prometheus scrapes (exposition format 0.0.4). */
  text(): Promise<string>;
}

/** Label values of one metric, at most. */
const MAX_LABEL_VALUES = 50;
/** Figures include a name for each HTTP status that NIP-11 documents were refused with. */
const MAX_FIGURES = 200;

/** A registry of its own for each call, so that two services can live in one process. */
export function createMetrics(service: string, healthNames: HealthNames = {}): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  collectDefaultMetrics({ register: registry });
  const all = counters(registry);
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `bigbrotr_${name}`, help, registers: [registry] });
  const roundSeconds = gauge('round_duration_seconds', 'How long the last round took.');
  const claimsHeld = gauge('claims_held', 'Relays that this process has claimed.');
  const inProgress = gauge('relays_in_progress', 'Relays that are being visited now.');
  const gaugeBy = (label: string, name: string, help: string) =>
    new Gauge({ name: `bigbrotr_${name}`, help, labelNames: [label], registers: [registry] });
  const network = gaugeBy(
    'part',
    'network_up',
    'Whether a part of our own network works (dns, ipv4, ipv6): 1 or 0.',
  );
  const streams = gauge('api_streams_open', 'Answers of the API that are being streamed.');
  const diskFree = gaugeBy(
    'disk',
    'disk_free_bytes',
    'Bytes that are free on a disk (database), where this service can see it.',
  );
  const lag = gaugeBy(
    'reader',
    'journal_lag_seconds',
    'Age of the oldest row of the journal that a reader has not read.',
  );
  const outcomeLabel = boundedLabel();
  const reasonLabel = boundedLabel();
  const publishLabel = boundedLabel();
  const figureLabel = boundedLabel(MAX_FIGURES);

  return {
    relayVisited: (outcome) => all.visited.inc({ outcome: outcomeLabel(outcome) }),
    visitStopped: (reason) => all.stopped.inc({ reason }),
    eventsStored: (count) => all.events.inc(count),
    sightingsStored: (count) => all.sightings.inc(count),
    eventsInvalid: (reason, count = 1) => all.invalid.inc({ reason: reasonLabel(reason) }, count),
    bytesReceived: (count) => all.bytes.inc(count),
    relaysInProgress: (count) => inProgress.set(count),
    claimsHeld: (count) => claimsHeld.set(count),
    claimLost: (work) => all.claimsLost.inc({ work }),
    networkWorks: (part, works) => network.set({ part }, Number(works)),
    databaseDiskFree: (bytes) => diskFree.set({ disk: 'database' }, bytes),
    roundFinished: (seconds) => {
      all.rounds.inc();
      roundSeconds.set(seconds);
    },
    journalLag: (reader, seconds) => lag.set({ reader }, seconds),
    figuresWaiting: figuresWaiting(gauge),
    requestAnswered: requestMetrics(registry),
    streamsOpen: (count) => streams.set(count),
    ...relayMetrics(registry),
    eventPublished: (outcome) => all.published.inc({ outcome: publishLabel(outcome) }),
    count: (figures) => {
      for (const [name, by] of Object.entries(figures))
        if (by !== undefined && by > 0) all.figures.inc({ figure: figureLabel(name) }, by);
    },
    counts: () => healthCounts(all, healthNames),
    text: () => registry.metrics(),
  };
}

/** Bounds of the histogram in seconds: from an answer from memory to the longest statement, and streams above. */
const REQUEST_SECONDS = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

function requestMetrics(registry: Registry): Metrics['requestAnswered'] {
  const requests = new Counter({
    name: 'bigbrotr_api_requests_total',
    help: 'HTTP requests that were answered, by route and status.',
    labelNames: ['route', 'status'],
    registers: [registry],
  });
  const seconds = new Histogram({
    name: 'bigbrotr_api_request_duration_seconds',
    help: 'Time from a request to the end of its answer, by route.',
    labelNames: ['route'],
    buckets: REQUEST_SECONDS,
    registers: [registry],
  });
  return (route, status, duration) => {
    requests.inc({ route, status });
    seconds.observe({ route }, duration);
  };
}

function relayMetrics(
  registry: Registry,
): Pick<Metrics, 'relayClients' | 'relayMessage' | 'relayEventsSent' | 'relayClientEnded'> {
  const registers = [registry];
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `bigbrotr_relay_${name}`, help, registers });
  const counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `bigbrotr_relay_${name}`, help, labelNames, registers });
  const clients = gauge('clients', 'Clients that are connected to the relay.');
  const subscriptions = gauge('subscriptions', 'Open subscriptions of clients of the relay.');
  const messages = counter('messages_total', 'Messages of clients of the relay, by type.', 'type');
  const sent = counter('events_sent_total', 'Events that were sent to clients of the relay.');
  const ended = counter(
    'clients_ended_total',
    'Clients that the relay refused or disconnected, by reason.',
    'reason',
  );
  return {
    relayClients: (connected, open) => {
      clients.set(connected);
      subscriptions.set(open);
    },
    relayMessage: (type) => messages.inc({ type }),
    relayEventsSent: (count) => sent.inc(count),
    relayClientEnded: (reason) => ended.inc({ reason }),
  };
}

function figuresWaiting(gauge: (name: string, help: string) => Gauge): Metrics['figuresWaiting'] {
  const dirtyDays = gauge('dirty_days', 'Days that changed and wait for a recount.');
  const behind = gauge(
    'figures_behind_seconds',
    'Age of the oldest change of the archive that no figure counts yet.',
  );
  return (days, behindSeconds) => {
    dirtyDays.set(days);
    behind.set(behindSeconds);
  };
}

function counters(registry: Registry) {
  const counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `bigbrotr_${name}`, help, labelNames, registers: [registry] });
  return {
    visited: counter('relays_visited_total', 'Relay visits that ended, by outcome.', 'outcome'),
    stopped: counter(
      'visits_stopped_total',
      'Visits of synchronizers that did not get all they asked for, by reason.',
      'reason',
    ),
    invalid: counter('events_invalid_total', 'Events that were refused, by reason.', 'reason'),
    published: counter(
      'events_published_total',
      'Attempts to publish an event to a relay, by outcome.',
      'outcome',
    ),
    claimsLost: counter(
      'claims_lost_total',
      'Claims on relays that were lost to another process, by kind of work.',
      'work',
    ),
    events: counter('events_stored_total', 'Events that were new to the archive.'),
    sightings: counter('sightings_stored_total', 'Events newly seen on a relay.'),
    bytes: counter('bytes_received_total', 'Bytes of messages received from relays.'),
    rounds: counter(
      'rounds_total',
      'Rounds that were reported: all that was due has been visited, or an interval is over.',
    ),
    figures: counter('figures_total', 'Further figures of /health, by name.', 'figure'),
  };
}

/** The registry's values under the names of `/health`. */
async function healthCounts(
  { visited, stopped, invalid, published, events, sightings, figures }: ReturnType<typeof counters>,
  { visits, outcomes = {}, stops = {} }: HealthNames,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const add = (name: string | undefined, value: number) => {
    if (name !== undefined) counts[name] = (counts[name] ?? 0) + value;
  };
  for (const [counter, name] of [
    [events, 'events'],
    [sightings, 'sightings'],
  ] as const)
    for (const value of (await valuesOf(counter)).values()) if (value > 0) add(name, value);
  for (const [reason, value] of await valuesOf(invalid)) add(`invalid_${reason}`, value);
  for (const [outcome, value] of await valuesOf(visited)) {
    add(visits, value);
    add(outcomes[outcome], value);
  }
  for (const [reason, value] of await valuesOf(stopped)) add(stops[reason as StopReason], value);
  for (const [outcome, value] of await valuesOf(published))
    add(outcome === 'accepted' ? 'published' : `publish_${outcome}`, value);
  for (const [figure, value] of await valuesOf(figures)) add(figure, value);
  return counts;
}

/** The values of a counter by its only label; under an empty text where it has none. */
async function valuesOf(counter: Counter): Promise<Map<string, number>> {
  const { values } = await counter.get();
  return new Map(
    values.map(({ labels, value }) => [`${Object.values(labels)[0] ?? ''}`, value] as const),
  );
}

/**
 * Each label value is a time series kept for ever, so a text that comes from a relay by mistake
 * must not create new ones without end: unexpected texts, and those past the limit, count as `other`.
 */
function boundedLabel(limit = MAX_LABEL_VALUES): (word: string) => string {
  const seen = new Set<string>();
  return (word) => {
    if (!/^[a-z0-9_-]{1,40}$/.test(word)) return 'other';
    if (!seen.has(word) && seen.size >= limit) return 'other';
    seen.add(word);
    return word;
  };
}
