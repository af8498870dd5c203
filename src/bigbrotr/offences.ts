import type { Query } from '../database.ts';
import type { InvalidReason } from '../nostr/event.ts';
import type { UnusableMessage } from '../relay/subscription.ts';
import type { Relay } from './batch.ts';

/** The part of `Bigbrotr` that knows what of a relay was refused. */

/** Why something that a relay sent was refused: the closed set of `relay_offences.reason` (init.sql explains each). */
export type OffenceReason =
  | InvalidReason
  | UnusableMessage
  | 'filter_mismatch'
  | 'binary_frame'
  | 'after_eose'
  | 'repeat'
  | 'quarantine_full';

/** Every reason; true: an event that is malformed or forged. */
export const OFFENCE_REASONS: Readonly<Record<OffenceReason, boolean>> = {
  not_object: true,
  id: true,
  pubkey: true,
  created_at: true,
  kind: true,
  tags: true,
  content: true,
  sig: true,
  too_large: true,
  id_mismatch: true,
  bad_signature: true,
  not_json: false,
  not_a_message: false,
  too_many_elements: false,
  wrong_subscription: false,
  filter_mismatch: false,
  binary_frame: false,
  after_eose: false,
  repeat: false,
  quarantine_full: false,
};

const BROKEN_EVENTS = Object.entries(OFFENCE_REASONS).flatMap(([reason, isBrokenEvent]) =>
  isBrokenEvent ? [reason] : [],
);

/** How often something was refused for one reason. */
export interface Offence {
  readonly reason: OffenceReason;
  readonly count: number;
  /** The id, in hex, that one of these events claimed; null where none had one. */
  readonly example: string | null;
}

/** Adds to what was refused of a relay. Not idempotent: the same call twice counts twice. */
export async function recordOffences(
  query: Query,
  relay: Relay,
  offences: readonly Offence[],
): Promise<void> {
  if (offences.length === 0) return;
  await query('select record_offences($1, $2)', [relay.relayId, JSON.stringify(offences)]);
}

/** SQL: how many broken and forged events came from relay $1, where nothing else ever did; else 0. $2: `BROKEN_EVENTS`. */
const BROKEN_ALONE = `case
        when exists (select from sightings where relay_id = $1) then 0
        when exists (select from quarantine where relay_id = $1) then 0
        else (select coalesce(sum(count), 0)::bigint from relay_offences where relay_id = $1 and reason = any ($2))
    end`;

/** What keeps a relay of which everything was asked from being whole. */
export interface Flaws {
  /** Stretches inside what is wanted that were tried in vain and are not proven. */
  readonly holes: number;
  /** Malformed and forged events that it ever sent, where it never sent any other; else 0. */
  readonly brokenAlone: number;
}

/** Counts the flaws of a relay and filter: holes in the seconds from `since` to `until`, and events that were all refused. */
export async function countFlaws(
  query: Query,
  relay: Relay,
  { filterId, since, until }: { filterId: number; since: number; until: number },
): Promise<Flaws> {
  const { rows } = await query<Flaws & Record<string, unknown>>(
    `select ${BROKEN_ALONE} as "brokenAlone",
            (select count(*) from holes
             where relay_id = $1 and filter_id = $3 and stretch && int8range($4, $5::bigint + 1)) as holes`,
    [relay.relayId, BROKEN_EVENTS, filterId, since, until],
  );
  return rows[0] ?? { holes: 0, brokenAlone: 0 };
}
