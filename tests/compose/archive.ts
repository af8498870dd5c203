import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateSecretKey, getPublicKey } from 'nostr-tools/pure';
import { writeGeoipFile } from '../fixtures/geoip-file.ts';
import { PRIORITY_RELAY_URL, RELAY_URL, relayEvents } from './relay-events.ts';
import { ComposeStack, canHave, missingEngine, type PortName } from './stack.ts';

/** The stack of docker-compose.yml beside a relay of our own, as the tests of the containers use it. */

const PGADMIN_IMAGE = 'dpage/pgadmin4:9.17';
/** All the addresses of the relay, whatever network Docker gives it. */
const SWISS = { country: { iso_code: 'CH' } };
export const PERMISSION_DENIED = '42501';
export const DROP = 'DROP DATABASE bigbrotr WITH (FORCE)';
export const services = [
  'monitor',
  'synchronizer',
  'priority_synchronizer',
  'finder',
  'api',
  'refresher',
] as const;
/** Those that visit relays, and so follow the blocklist. */
export const visiting = ['monitor', 'synchronizer', 'priority_synchronizer', 'finder'] as const;
export const healthPorts = [
  'MONITOR_HEALTH_PORT',
  'SYNCHRONIZER_HEALTH_PORT',
  'PRIORITY_SYNCHRONIZER_HEALTH_PORT',
  'FINDER_HEALTH_PORT',
  'API_PORT',
  'REFRESHER_HEALTH_PORT',
] as const satisfies readonly PortName[];

export const missing = await missingEngine();
if (missing !== null)
  console.warn(`Skipped, all of it: no Docker engine with Compose v2 (${missing}).`);

const newPassword = () => randomBytes(18).toString('hex');
const secretKey = generateSecretKey();
export const publicKey = getPublicKey(secretKey);

export const secrets = {
  // Signs that a shell, an .ini file or SQL might take for their own.
  POSTGRES_PASSWORD: `${newPassword()}"$x \\ #;`,
  POSTGRES_ADMIN_PASSWORD: `${newPassword()}"$(id)`,
  POSTGRES_OWNER_PASSWORD: `${newPassword()}"$y`,
  API_DB_PASSWORD: newPassword(),
  POSTGRES_READER_PASSWORD: newPassword(),
  PGBOUNCER_ADMIN_PASSWORD: `${newPassword()}":\\ ;`,
  PGADMIN_DEFAULT_PASSWORD: newPassword(),
  SECRET_KEY: Buffer.from(secretKey).toString('hex'),
};

/** The ids of the events that the relay holds. */
export const wanted = relayEvents()
  .map(({ id }) => id)
  .sort();

/** How a query was refused: its SQLSTATE, or what was said. */
export async function refused(answer: Promise<unknown>): Promise<string | undefined> {
  const error = await answer.then(
    () => null,
    (reason: Error & { code?: string }) => reason,
  );
  return error?.code ?? error?.message;
}

/** The stack, not started yet, and questions to it. */
export async function createArchive() {
  const stack = await ComposeStack.create(
    ['docker-compose.yml', 'tests/compose/docker-compose.test.yml'],
    (directory) => {
      writeFileSync(join(directory, 'seeds.txt'), `${RELAY_URL}\n${PRIORITY_RELAY_URL}\n`);
      writeFileSync(join(directory, 'priority.txt'), `${PRIORITY_RELAY_URL}\n`);
      writeFileSync(join(directory, 'blocklist.txt'), '# nobody yet\n');
      writeGeoipFile(join(directory, 'city.mmdb'), 'GeoLite2-City', {
        ...{ '0.0.0.0/1': SWISS, '128.0.0.0/1': SWISS },
      });
      return {
        ...secrets,
        PUBLIC_KEY: publicKey,
        ALLOW_PRIVATE_RELAYS: 'true',
        SEED_RELAYS_PATH: join(directory, 'seeds.txt'),
        SYNCHRONIZER_PRIORITY_RELAYS_PATH: join(directory, 'priority.txt'),
        RELAY_BLOCKLIST_PATH: join(directory, 'blocklist.txt'),
        MONITOR_CHECKS: 'open,read,write,nip11,geo',
        GEOIP_CITY_PATH: join(directory, 'city.mmdb'),
        MONITOR_PUBLISH_RELAYS: RELAY_URL,
        MONITOR_LOOP_INTERVAL_MINUTES: '1',
        SYNCHRONIZER_LOOP_INTERVAL_MINUTES: '1',
      };
    },
  );
  const asWriter = (sql: string) => stack.query('bigbrotr', secrets.POSTGRES_PASSWORD, sql);
  const asReader = (sql: string) =>
    stack.query('bigbrotr_reader', secrets.POSTGRES_READER_PASSWORD, sql);
  return {
    stack,
    asWriter,
    asReader,
    /** The ids in the archive, without the events that the monitor signs to see who lets it write. */
    archived: async (where = 'true') => {
      const sql = `SELECT encode(id, 'hex') AS id FROM events
        WHERE encode(pubkey, 'hex') <> '${publicKey}' AND ${where} ORDER BY 1`;
      return (await asReader(sql)).map(({ id }) => id);
    },
    /** Who may do what with each relation. */
    rights: () =>
      asReader(`SELECT relname, grantee::regrole::text, privilege_type FROM pg_class, aclexplode(relacl)
        WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2, 3`),
    health: () => Promise.all(healthPorts.map((port) => stack.health(port))),
    up: async () => {
      const withPgAdmin = await canHave(PGADMIN_IMAGE);
      if (!withPgAdmin)
        console.warn(`Left out: pgadmin, since ${PGADMIN_IMAGE} cannot be had here.`);
      const names = [...services, 'test_relay', ...(withPgAdmin ? ['pgadmin'] : [])];
      await stack.up(['--build', ...names]);
      return { withPgAdmin };
    },
  };
}

export type Archive = Awaited<ReturnType<typeof createArchive>>;
