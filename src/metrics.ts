import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';

/** What a service counts, for Prometheus. Dashboards rely on the names: they do not change meaning. */
export interface Metrics {
  /** One visit or probe of a relay that ended, with a short stable word for how. */
  relayVisited(outcome: string): void;
  /** Why a visit did not get all that it asked for: a word of ours, or a sentence, and after a colon what the relay said. */
  visitStopped(detail: string): void;
  eventsStored(count: number): void;
  sightingsStored(count: number): void;
  eventsInvalid(reason: string, count?: number): void;
  bytesReceived(bytes: number): void;
  relaysInProgress(count: number): void;
  roundFinished(seconds: number): void;
  /** One attempt to publish an event that ended, with a short stable word for how. */
  eventPublished(outcome: string): void;
  /** The text that Prometheus scrapes (exposition format 0.0.4). */
  text(): Promise<string>;
}

/** A registry of its own for each call, so that two services can live in one process. */
export function createMetrics(service: string): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  collectDefaultMetrics({ register: registry });

  const registers = [registry];
  const counter = (name: string, help: string) =>
    new Counter({ name: `bigbrotr_${name}`, help, registers });
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `bigbrotr_${name}`, help, registers });

  const visited = new Counter({
    name: 'bigbrotr_relays_visited_total',
    help: 'Relay visits that ended, by outcome.',
    labelNames: ['outcome'],
    registers,
  });
  const stopped = new Counter({
    name: 'bigbrotr_visits_stopped_total',
    help: 'Visits of synchronizers that did not get all they asked for, by reason.',
    labelNames: ['reason'],
    registers,
  });
  const invalid = new Counter({
    name: 'bigbrotr_events_invalid_total',
    help: 'Events that were refused, by reason.',
    labelNames: ['reason'],
    registers,
  });
  const published = new Counter({
    name: 'bigbrotr_events_published_total',
    help: 'Attempts to publish an event to a relay, by outcome.',
    labelNames: ['outcome'],
    registers,
  });
  const events = counter('events_stored_total', 'Events that were new to the archive.');
  const sightings = counter('sightings_stored_total', 'Events newly seen on a relay.');
  const bytes = counter('bytes_received_total', 'Bytes of messages received from relays.');
  const rounds = counter(
    'rounds_total',
    'Rounds that were reported: all that was due has been visited, or an interval is over.',
  );
  const roundSeconds = gauge('round_duration_seconds', 'How long the last round took.');
  const inProgress = gauge('relays_in_progress', 'Relays that are being visited now.');
  const outcomeLabel = boundedLabel();
  const reasonLabel = boundedLabel();
  const publishLabel = boundedLabel();
  const stopLabel = boundedLabel();

  return {
    relayVisited: (outcome) => visited.inc({ outcome: outcomeLabel(outcome) }),
    visitStopped: (detail) => stopped.inc({ reason: stopLabel(reasonWord(detail)) }),
    eventsStored: (count) => events.inc(count),
    sightingsStored: (count) => sightings.inc(count),
    eventsInvalid: (reason, count = 1) => invalid.inc({ reason: reasonLabel(reason) }, count),
    bytesReceived: (count) => bytes.inc(count),
    relaysInProgress: (count) => inProgress.set(count),
    roundFinished: (seconds) => {
      rounds.inc();
      roundSeconds.set(seconds);
    },
    eventPublished: (outcome) => published.inc({ outcome: publishLabel(outcome) }),
    text: () => registry.metrics(),
  };
}

/** `http_301`, `closed`, `too_many_forged_or_broken_events`: what is ours in the detail of a visit, as one word. */
function reasonWord(detail: string): string {
  const [ours = ''] = detail.split(/:| during /, 1);
  const word = ours.toLowerCase().replace(/[^a-z0-9]+/g, '_');
  return word.replace(/^[0-9_]+|_+$/g, '').slice(0, 40);
}

/**
 * Each label value is a time series kept for ever, so a text that comes from a relay by mistake
 * must not make new ones without end: odd words, and words past the fiftieth, count as `other`.
 */
function boundedLabel(limit = 50): (word: string) => string {
  const seen = new Set<string>();
  return (word) => {
    if (!/^[a-z0-9_-]{1,40}$/.test(word)) return 'other';
    if (!seen.has(word) && seen.size >= limit) return 'other';
    seen.add(word);
    return word;
  };
}
