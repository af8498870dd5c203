import type { InvalidReason } from '../nostr/event.ts';
import type { UnusableMessage } from '../nostr/message.ts';
import type { Query } from './connection.ts';
import type { Relay } from './relays.ts';
import { countUnseenWithheld } from './withheld.ts';

/** Table `relay_offences`: what relays sent and the archive refused. */

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

/** Adds to the offences of a relay. Not idempotent: the same call twice counts twice. */
export async function recordOffences(
  query: Query,
  relay: Relay,
  offences: readonly Offence[],
): Promise<void> {
  if (offences.length === 0) return;
  await query('select record_offences($1, $2)', [relay.relayId, JSON.stringify(offences)]);
}

/** SQL: number of malformed and forged events of relay $1 if it never sent others; otherwise 0. $2: `BROKEN_EVENTS`. */
const BROKEN_ALONE = `case
        when newest_sighting($1, 0, 549755813887) is not null then 0
        when exists (select from quarantine where relay_id = $1) then 0
        else (select coalesce(sum(count), 0)::bigint from relay_offences where relay_id = $1 and reason = any ($2))
    end`;

/** Flaws of a relay after everything was requested. */
export interface Flaws {
  /** Wanted windows that were requested and cannot be proven. */
  readonly holes: number;
  /** Malformed and forged events that it ever sent, if it never sent others; otherwise 0. */
  readonly brokenAlone: number;
  /** Events of the wanted seconds that it lists and does not serve. */
  readonly withheld: number;
}

/** Counts the flaws of a relay and filter: holes and withheld events in the seconds from `since` to `until`, and events that were all refused. */
export async function countFlaws(
  query: Query,
  relay: Relay,
  wanted: { readonly filterId: number; readonly since: number; readonly until: number },
): Promise<Flaws> {
  let counts = await count(query, relay, wanted);
  if (counts.holes > 0) {
    await forgetProvenHoles(query, relay, wanted.filterId);
    counts = await count(query, relay, wanted);
  }
  const { holes, brokenAlone, mayWithhold } = counts;
  const key = { relay, filterId: wanted.filterId };
  const withheld = mayWithhold ? await countUnseenWithheld(query, key, wanted) : 0;
  return { holes, brokenAlone, withheld };
}

/** Deletes holes whose seconds are all proven now, perhaps by several proofs. */
async function forgetProvenHoles(query: Query, relay: Relay, filterId: number): Promise<void> {
  await query(
    `delete from holes
     where relay_id = $1 and filter_id = $2 and stretch <@ (
         select coalesce(range_agg(covered), '{}') from coverage where relay_id = $1 and filter_id = $2
     )`,
    [relay.relayId, filterId],
  );
}

/** `mayWithhold`: whether the relay withholds anything. */
type Counts = Omit<Flaws, 'withheld'> & { readonly mayWithhold: boolean };

async function count(
  query: Query,
  relay: Relay,
  { filterId, since, until }: { filterId: number; since: number; until: number },
): Promise<Counts> {
  const { rows } = await query<Counts & Record<string, unknown>>(
    `select ${BROKEN_ALONE} as "brokenAlone", exists (select from withheld where relay_id = $1) as "mayWithhold",
            (select count(*) from holes
             where relay_id = $1 and filter_id = $3 and stretch && int8range($4, $5::bigint + 1)) as holes`,
    [relay.relayId, BROKEN_EVENTS, filterId, since, until],
  );
  return rows[0] ?? { holes: 0, brokenAlone: 0, mayWithhold: false };
}
