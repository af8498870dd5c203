/** Looks whether any process ever takes a claim from another one before its lease has ended, and how long after that. */
import type { Servers } from './servers.ts';

/** Notes each change of a holder, in the archive itself, and whether the lease of the one before was valid. */
export async function watchClaims(servers: Servers): Promise<void> {
  await servers.query(
    'create table taken_over (work text, relay_id integer, too_early boolean, seconds bigint)',
  );
  await servers.query(
    `create function note_taken_over() returns trigger language plpgsql as $$ begin
       if new.holder <> old.holder then
         insert into taken_over values (new.work, new.relay_id, is_lease_valid(old.until), unix_now() - old.until);
       end if;
       return new;
     end $$`,
  );
  await servers.query(
    'create trigger note_taken_over before update on claims for each row execute function note_taken_over()',
  );
}

/** What was noted. */
export interface TakenOver {
  readonly claims: number;
  /** Claims that were taken over while their lease was valid. */
  readonly tooEarly: number;
  /** Time from the end of a lease to the take-over, in seconds. */
  readonly median: number;
  readonly longest: number;
}

export async function takenOver(servers: Servers): Promise<TakenOver> {
  const [row] = await servers.query<TakenOver>(
    `select count(*)::integer as claims, count(*) filter (where too_early)::integer as "tooEarly",
            coalesce(percentile_disc(0.5) within group (order by seconds), 0)::integer as median,
            coalesce(max(seconds), 0)::integer as longest
     from taken_over`,
  );
  return row ?? { claims: 0, tooEarly: 0, median: 0, longest: 0 };
}
