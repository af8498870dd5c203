import { Gauge, type Registry } from 'prom-client';

/** One figure of the whole archive. */
export interface ArchiveSample {
  readonly metric: ArchiveMetric;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric of the whole archive: what it is, and its labels. */
interface Described {
  readonly help: string;
  readonly labels?: readonly string[];
}

/** What the refresher reads of the whole archive (`src/database/archive-metrics.ts`), by part. */
export const ARCHIVE_METRICS = {
  size: {
    table_rows: {
      help: 'Rows of a table: counted up to 64 MB, estimated by the latest VACUUM above.',
      labels: ['table'],
    },
    table_size_bytes: { help: 'Size of a table with its indexes.', labels: ['table'] },
    database_size_bytes: { help: 'Size of the whole database.' },
  },
  relays: {
    relays: {
      help: 'Relays by network and state (up, down, unknown, never_checked).',
      labels: ['network', 'state'],
    },
    relays_readable: {
      help: 'Relays that answered a REQ in their latest check.',
      labels: ['network'],
    },
    relays_paused: { help: 'Relays that are not visited for now, since they refused or failed.' },
    relay_rtt_seconds: {
      help: 'Round-trip times of readable relays in their latest check (open, read, write), as quantiles.',
      labels: ['check', 'network', 'quantile'],
    },
  },
  coverage: {
    coverage_share: {
      help: 'Mean share of the wanted time of a relay that is proven complete: 1 for all of it. Of coverage_sampled_relays.',
    },
    coverage_gaps: { help: 'Mean number of gaps of a relay. Of coverage_sampled_relays.' },
    coverage_sampled_relays: {
      help: 'Relays in the means of coverage, at most 200 and always the same.',
    },
    coverage_relays: {
      help: 'Relays that were visited: caught_up (read to their end) or backlog.',
      labels: ['state'],
    },
    coverage_oldest_proof_timestamp_seconds: {
      help: 'The oldest proof of coverage of relays that were visited within a day and not in vain, Unix seconds.',
    },
    holes: { help: 'Stretches that cannot be proven complete, by reason.', labels: ['reason'] },
    latest_visits: { help: 'Relays by the outcome of their latest visit.', labels: ['outcome'] },
    relays_failing: { help: 'Relays whose latest visit failed.' },
    relay_offences: {
      help: 'What was refused of relays, by reason. Those of deleted relays are not in it.',
      labels: ['reason'],
    },
  },
  work: {
    journal_lag_seconds: {
      help: 'Age of the oldest row of the journal that a reader has not read.',
      labels: ['reader'],
    },
    last_event_stored_timestamp_seconds: {
      help: 'When a new event was stored last, Unix seconds.',
    },
    figures_as_of_timestamp_seconds: {
      help: 'Everything that was stored until then is in the figures, Unix seconds.',
    },
    claims: { help: 'Claims on relays that hold now, by kind of work.', labels: ['work'] },
    claim_holders: { help: 'Processes that hold claims.' },
    run_succeeded: {
      help: 'Whether the latest backup or verification succeeded: 1 or 0. Absent: none is recorded.',
      labels: ['command'],
    },
    run_timestamp_seconds: {
      help: 'When the latest backup or verification ended, Unix seconds.',
      labels: ['command'],
    },
    run_success_timestamp_seconds: {
      help: 'When the latest backup or verification that succeeded ended, Unix seconds.',
      labels: ['command'],
    },
    run_duration_seconds: {
      help: 'How long the latest backup or verification took.',
      labels: ['command'],
    },
  },
  server: {
    database_backends: { help: 'Connections of all clients that PostgreSQL has open.' },
    database_backends_max: { help: 'Connections that PostgreSQL opens for clients at most.' },
    database_deadlocks: { help: 'Deadlocks since the statistics of the database were reset.' },
    database_cache_hit_share: {
      help: 'Share of pages that PostgreSQL found in its memory, since its statistics were reset.',
    },
    database_oldest_xid_age: {
      help: 'Transactions since the oldest row that is not frozen: at 2^31 PostgreSQL stops.',
    },
    database_clock_offset_seconds: {
      help: 'Clock of the database less that of this process, to the second.',
    },
    replication_slot_active: {
      help: 'Whether a standby reads from a replication slot: 1 or 0. Absent: there is no slot.',
      labels: ['slot'],
    },
    replication_lag_bytes: {
      help: 'WAL that a replication slot has not passed on.',
      labels: ['slot'],
    },
  },
} as const satisfies Readonly<Record<string, Readonly<Record<string, Described>>>>;

export type ArchivePart = keyof typeof ARCHIVE_METRICS;
export type ArchiveMetric = {
  [Part in ArchivePart]: keyof (typeof ARCHIVE_METRICS)[Part];
}[ArchivePart];

/**
 * Gauges of the whole archive, made at the first call: other services have none of them.
 *
 * @param lag the gauge that every service has for its own reader of the journal
 * @returns sets those of a part; what it has no sample of is absent then
 */
export function archiveGauges(registry: Registry, lag: Gauge) {
  let gauges: Map<string, Gauge> | null = null;
  let readAt: Gauge | null = null;
  return (part: ArchivePart, samples: readonly ArchiveSample[], at: number): void => {
    gauges ??= new Map([...describedGauges(registry), ['journal_lag_seconds', lag]]);
    readAt ??= new Gauge({
      name: 'bigbrotr_archive_read_timestamp_seconds',
      help: 'When the figures of the whole archive were read, by part, Unix seconds.',
      labelNames: ['part'],
      registers: [registry],
    });
    for (const [name, described] of Object.entries<Described>(ARCHIVE_METRICS[part])) {
      const gauge = gauges.get(name);
      gauge?.reset();
      if (!described.labels) gauge?.remove(); // without labels it would be 0 now
    }
    for (const { metric, labels, value } of samples) gauges.get(metric)?.set({ ...labels }, value);
    readAt.set({ part }, at);
  };
}

function describedGauges(registry: Registry): [string, Gauge][] {
  return Object.values(ARCHIVE_METRICS).flatMap((part) =>
    Object.entries(part as Readonly<Record<string, Described>>).flatMap(
      ([name, { help, labels = [] }]): [string, Gauge][] => {
        if (name === 'journal_lag_seconds') return [];
        const options = { name: `bigbrotr_${name}`, help, labelNames: [...labels] };
        return [[name, new Gauge({ ...options, registers: [registry] })]];
      },
    ),
  );
}
