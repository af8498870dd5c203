/** After the faults: the services run on until each relay that can be archived is, or names what it lacks. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { SoakRelay } from './relays.ts';
import type { Servers } from './servers.ts';
import type { Tally } from './tally.ts';
import { letDaysPass, letHoursPassForNames, letMinutesPass, letMonthsPass } from './time.ts';

interface Standing {
  readonly url: string;
  readonly outcome: string | null;
  readonly detail: string | null;
  /** Whether a visit has ended in peace that wanted everything up to the end of the faults. */
  readonly ended: boolean;
  readonly gaps: number;
  /** Whether some of its coverage was proven before the faults ended only. */
  readonly stale: boolean;
  readonly pause: string | null;
  readonly readable: boolean | null;
}

const LOOK_EVERY_MS = 3000;
const CHECK_EVERY_LOOKS = 10;
/** After so much of the time a relay that promised to name its gaps need not be proven anew: some of it never is. */
const NAMED_SHARE = 0.4;

/**
 * Lets months pass once, so that all is proven anew and what came late is found. Who is not caught up in time is
 * a failure with the state it is in.
 *
 * @param onLook receives the number of relays that are awaited
 */
export async function catchUp(
  servers: Servers,
  relays: readonly SoakRelay[],
  tally: Tally,
  timeoutMs: number,
  onLook: (awaited: number) => void,
): Promise<void> {
  let awaited = relays;
  const started = performance.now();
  const calmSince = Math.floor(Date.now() / 1000) + 1;
  await sleep(1100);
  await letMonthsPass(servers);
  for (let look = 0; ; look += 1) {
    if (look % CHECK_EVERY_LOOKS === 0) await letDaysPass(servers);
    await letMinutesPass(servers, urlsOf(awaited));
    await letHoursPassForNames(servers);
    await sleep(LOOK_EVERY_MS);
    const spent = (performance.now() - started) / timeoutMs;
    const standings = await standingsOf(servers, urlsOf(awaited), calmSince);
    awaited = awaited.filter(
      (relay) => !isCaughtUp(relay, standings.get(relay.url), spent > NAMED_SHARE),
    );
    onLook(awaited.length);
    if (awaited.length === 0) return;
    if (spent < 1) continue;
    for (const relay of awaited) {
      const state = JSON.stringify(standings.get(relay.url) ?? 'never visited');
      tally.fail(`the relay that ${relay.name} is not caught up with after the faults: ${state}`);
    }
    return;
  }
}

function urlsOf(relays: readonly SoakRelay[]): string[] {
  return relays.map(({ url }) => url);
}

function isCaughtUp(
  { promise }: SoakRelay,
  standing: Standing | undefined,
  isLate: boolean,
): boolean {
  if (!standing?.ended) return false;
  const { outcome, gaps, stale } = standing;
  if (promise === 'whole') return outcome === 'complete' && gaps === 0 && !stale;
  return (outcome === 'complete' || outcome === 'partial') && (!stale || isLate);
}

async function standingsOf(
  servers: Servers,
  urls: readonly string[],
  calmSince: number,
): Promise<Map<string, Standing>> {
  const rows = await servers.query<Standing>(
    `select r.url, v.outcome, v.detail, coalesce(v.ended_at >= $2 and upper(v.wanted) > $2, false) as ended,
            (select count(*)::int from coverage_gaps g where g.relay_url = r.url) as gaps,
            exists (select from coverage c where c.relay_id = r.relay_id and c.proven_at < $2) as stale,
            m.reason || ' until ' || to_timestamp(m.not_before) as pause,
            (select readable from relay_metadata_latest l where l.relay_url = r.url) as readable
     from relays r
     left join visits v using (relay_id)
     left join relay_manners m using (relay_id)
     where r.url = any ($1)`,
    [urls, calmSince],
  );
  return new Map(rows.map((row) => [row.url, row]));
}
