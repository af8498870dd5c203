/**
 * Time passes faster in a soak: what the archive says of when something was is moved back, as though the hours and
 * days in between were over. Pauses after failures are minutes, checks are hours and proofs are days apart else.
 */
import type { Servers } from './servers.ts';

/** Visits are due again, and pauses of these relays are over within a second. */
export async function letMinutesPass(servers: Servers, urls: readonly string[]): Promise<void> {
  await servers.query(
    `update visits set started_at = started_at - 60
     from relays r where r.relay_id = visits.relay_id and r.url = any ($1) and ended_at is not null`,
    [urls],
  );
  await servers.query(
    `update relay_manners m
     set not_before = least(not_before, unix_now() + 1), pace_ms = least(pace_ms, 400)
     from relays r where r.relay_id = m.relay_id and r.url = any ($1)`,
    [urls],
  );
}

/** Names that were asked in vain wait half a day less, and the budgets of the hour are whole again. */
export async function letHoursPassForNames(servers: Servers): Promise<void> {
  await servers.query(
    `update named_relays
     set last_try_at = last_try_at - 43200, next_try_at = next_try_at - 43200
     where last_try_at is not null`,
  );
}

/** Every relay is checked again, as though each had been named anew, and pages that were made smaller may grow. */
export async function letDaysPass(servers: Servers): Promise<void> {
  await servers.query('select recheck_relays(array(select url from relays), 10)');
  await servers.query('update relay_manners set page_limit_at = page_limit_at - 2 * 86400');
}

let months = 0;

/** All that is proven is to be proven anew; holes are tried again, and NIP-77 where it did not work. */
export async function letMonthsPass(servers: Servers): Promise<void> {
  months += 1;
  await servers.query(
    `update coverage set proven_at = proven_at - 40 * 86400, proven_on = proven_on - 40 * $1::integer
     where proven_on >= current_date - 2`,
    [months],
  );
  await servers.query('update holes set noted_at = noted_at - 40 * 86400');
  await servers.query('update relay_manners set nip77_not_before = null, nip77_reason = null');
}
