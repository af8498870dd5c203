import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Fault, Scene } from './fault.ts';
import type { KeptService } from './services.ts';

/** An advisory lock (PostgreSQL, 13.3.5): whoever writes names takes it for as long as its transaction lasts. */
const GATE = 17;
const BUILD_GATE = `
create or replace function wait_at_gate() returns trigger language plpgsql as $$ begin
    perform pg_advisory_xact_lock_shared(${GATE});
    return new;
end $$;
create or replace trigger names_wait_at_gate before insert on named_relays
for each row execute function wait_at_gate()`;
/** Sessions that stand at the gate, others that want to close it apart. */
const WAITING = `from pg_stat_activity where wait_event = 'advisory' and query !~ 'pg_advisory_lock'`;
/** The finder looks for new events every ten seconds. */
const WAIT_TRIES = 60;
const WAIT_TRY_MS = 300;

const finderOf = ({ mortal }: Pick<Scene, 'mortal'>): KeptService | undefined =>
  mortal.find(({ name }) => name === 'finder');

/**
 * Kills the finder where it would lose or double names if it could: it has read events, and writes what they name.
 *
 * @param withServer whether what PostgreSQL does for it ends too, as when both are on a machine that fails; else the
 * statement that was sent is still carried out
 */
async function killWriting(scene: Scene, withServer: boolean): Promise<boolean> {
  const finder = finderOf(scene);
  if (!finder) return false;
  const keeper = new pg.Client(scene.servers.postgres.database.config);
  keeper.on('error', () => {}); // its server may be killed by another fault
  try {
    await keeper.connect();
    await keeper.query(BUILD_GATE);
    await keeper.query(`select pg_advisory_lock(${GATE})`);
    for (let tries = 0; tries < WAIT_TRIES; tries += 1) {
      if (await isWaiting(keeper)) {
        const isDead = await finder.kill();
        if (withServer) await keeper.query(`select pg_terminate_backend(pid) ${WAITING}`);
        return isDead;
      }
      scene.arrivals.arriveNaming();
      await sleep(WAIT_TRY_MS);
    }
    return false;
  } catch {
    return false; // the database went away, so that nothing is shown; there are other times
  } finally {
    await keeper.end().catch(() => {});
  }
}

async function killThread(scene: Scene): Promise<boolean> {
  const finder = finderOf(scene);
  if (!finder) return false;
  const before = finder.threadDeaths;
  finder.killThread();
  for (let tries = 0; tries < WAIT_TRIES && finder.threadDeaths === before; tries += 1)
    await sleep(WAIT_TRY_MS);
  return finder.threadDeaths > before;
}

const isPossible = (scene: Scene) => finderOf(scene) !== undefined;

export const FINDER_FAULTS: readonly Fault[] = [
  {
    name: 'kill -9 of the finder while it writes names',
    isPossible,
    strike: (scene) => killWriting(scene, false),
  },
  {
    name: 'kill -9 of the finder and its transaction while it writes names',
    isPossible,
    strike: (scene) => killWriting(scene, true),
  },
  { name: 'death of a worker of the finder', isPossible, strike: killThread },
];

async function isWaiting(keeper: pg.Client): Promise<boolean> {
  const { rowCount } = await keeper.query(`select ${WAITING}`);
  return rowCount !== null && rowCount > 0;
}
