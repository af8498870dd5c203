import type { Query } from './connection.ts';
import type { Relay } from './relays.ts';

/** One check of one relay, as the database takes it (`insert_relay_metadata()` in init.sql). */
export interface CheckRow {
  readonly name: string;
  readonly success: boolean;
  readonly reason: string | null;
  readonly data: object | null;
  readonly duration_ms: number;
  /** Lets later snapshots repeat the result. */
  readonly carried?: {
    /** Unix seconds. */
    readonly fresh_until: number;
    readonly etag: string | null;
    readonly last_modified: string | null;
  };
}

/** A result that later snapshots repeat. */
export interface CarriedRow {
  readonly name: string;
  readonly durationMs: number;
  /** Unix seconds. */
  readonly freshUntil: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
  readonly data: unknown;
}

/**
 * Adds results of checks that are not stored yet, in one order and before the snapshots: two writers that insert the
 * same results in different orders would deadlock.
 */
export async function insertCheckResults(query: Query, checks: readonly CheckRow[]): Promise<void> {
  if (checks.length > 0) await query('select insert_check_results($1)', [JSON.stringify(checks)]);
}

/** Results that the next check of a relay may repeat without measuring, or confirm by a conditional request. */
export async function carriedChecks(query: Query, relay: Relay): Promise<CarriedRow[]> {
  const { rows } = await query<CarriedRow & Record<string, unknown>>(
    `select c.name, c.duration_ms as "durationMs", c.fresh_until as "freshUntil", c.etag,
            c.last_modified as "lastModified", k.data
     from carried_checks c
     join check_results k on k.result_id = c.result_id
     where c.relay_id = $1`,
    [relay.relayId],
  );
  return rows;
}
