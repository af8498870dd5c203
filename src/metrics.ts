import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { StopReason } from './relay/stop-reason.ts';

/** What a service counts, for Prometheus. Dashboards rely on the names: they do not change meaning. */
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
  const counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `bigbrotr_${name}`, help, labelNames, registers });
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `bigbrotr_${name}`, help, registers });

  const visited = counter(
    'relays_visited_total',
    'Relay visits that ended, by outcome.',
    'outcome',
  );
  const stopped = counter(
    'visits_stopped_total',
    'Visits of synchronizers that did not get all they asked for, by reason.',
    'reason',
  );
  const invalid = counter('events_invalid_total', 'Events that were refused, by reason.', 'reason');
  const published = counter(
    'events_published_total',
    'Attempts to publish an event to a relay, by outcome.',
    'outcome',
  );
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

  return {
    relayVisited: (outcome) => visited.inc({ outcome: outcomeLabel(outcome) }),
    visitStopped: (reason) => stopped.inc({ reason }),
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
