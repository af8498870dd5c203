/** What goes wrong with the database, with its disk, and on the way there. */
import { setTimeout as sleep } from 'node:timers/promises';
import { health } from '../../processes/health-client.ts';
import { aWhile, type Fault, type Scene } from './fault.ts';

/** Longer than a service waits for its database before it gives up what it does. */
const LONG_MS = 30_000;
/** So often, and so long apart, it is looked whether anybody has met the full disk; large events come each time. */
const FULL_TRIES = 60;
const FULL_TRY_MS = 500;
const NO_SPACE = 'No space left on device';

/** Fills the disk to the last byte, and frees it when PostgreSQL has complained. It may have gone down of it. */
async function fillDisk({ servers, arrivals, random, mortal, tally }: Scene): Promise<boolean> {
  const { disk, postgres } = servers;
  if (typeof disk === 'string') return false;
  return servers.away(async () => {
    const said = postgres.said.length;
    const hasComplained = () => postgres.said.slice(said).some((line) => line.includes(NO_SPACE));
    let wentDown = false;
    await servers.withoutPostgres(async () => {
      try {
        disk.leave(0);
        for (let tries = 0; tries < FULL_TRIES && !hasComplained(); tries += 1) {
          arrivals.arriveLarge();
          await sleep(FULL_TRY_MS);
        }
        if (hasComplained()) await aWhile(random, 500, random.next() < 0.3 ? LONG_MS : 6000);
        wentDown = !postgres.isRunning();
        tally.count('(services that were unready on a full disk)', await countUnready(mortal));
      } finally {
        disk.release();
      }
    });
    if (!hasComplained()) return false;
    tally.count(
      wentDown ? '(PostgreSQL went down of a full disk)' : '(PostgreSQL stayed up on a full disk)',
    );
    return true;
  });
}

async function countUnready(services: Scene['mortal']): Promise<number> {
  const answers = await Promise.all(services.map(({ healthPort }) => health(healthPort)));
  return answers.filter((answer) => answer?.status === 503).length;
}

export const DATABASE_FAULTS: readonly Fault[] = [
  {
    name: 'disk full',
    isPossible: ({ servers }) => typeof servers.disk !== 'string',
    strike: fillDisk,
  },
  {
    name: 'kill -9 of PostgreSQL',
    strike: ({ servers, random }) =>
      servers.away(async () => {
        const said = servers.postgres.said.length;
        await servers.withoutPostgres(async () => {
          await servers.postgres.kill();
          await aWhile(random, 200, random.next() < 0.2 ? LONG_MS : 4000);
        });
        return servers.postgres.said
          .slice(said)
          .some((line) => line.includes('was not properly shut down'));
      }),
  },
  {
    name: 'kill -9 of PgBouncer',
    isPossible: ({ servers }) => servers.poolerVersion !== null,
    strike: ({ servers, random }) =>
      servers.away(async () => {
        if (servers.proxy.open() === 0) return false;
        await servers.killPooler();
        await aWhile(random, 100, 4000);
        await servers.restartPooler();
        return true;
      }),
  },
  {
    name: 'database sockets cut',
    strike: ({ servers: { proxy } }) => {
      const open = proxy.open();
      proxy.cut();
      return Promise.resolve(open > 0);
    },
  },
  {
    name: 'database sockets half-open',
    strike: ({ servers, random }) =>
      servers.away(async () => {
        const open = servers.proxy.open();
        servers.proxy.stall();
        await aWhile(random, 500, 4000);
        servers.proxy.recover();
        return open > 0;
      }),
  },
  {
    name: 'answers to COMMIT lost',
    strike: async ({ servers: { proxy }, random }) => {
      const before = proxy.swallowed;
      proxy.swallowCommits(random.integer(1, 4));
      for (let tries = 0; tries < 50 && proxy.swallowed === before; tries += 1) await sleep(100);
      return proxy.swallowed > before;
    },
  },
  {
    name: 'database connections refused',
    strike: async ({ servers: { proxy }, random }) => {
      const before = proxy.refused;
      proxy.refuse(random.integer(1, 5));
      proxy.cut();
      for (let tries = 0; tries < 50 && proxy.refused === before; tries += 1) await sleep(100);
      return proxy.refused > before;
    },
  },
];
