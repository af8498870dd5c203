import { chmodSync, chownSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { DatabaseConfig, DatabaseSsl } from '../../../src/config/load.ts';
import { loadDatabaseConfig, loadInitializerConfig } from '../../../src/config/load.ts';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import type { DatabaseError } from '../../../src/database/connection.ts';
import { migrateArchive } from '../../../src/database/migrate.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../../src/local/postgres.ts';
import { makeCertificate } from '../../network/certificates.ts';
import { silent } from '../../postgres/bigbrotr.ts';
import { ownDirectory } from '../../processes/directory.ts';
import { projectFile } from '../../processes/project.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const authority = makeCertificate({ subject: 'the authority', names: [], isAuthority: true });
const other = makeCertificate({ subject: 'another authority', names: [], isAuthority: true });
const directory = ownDirectory();
const caFile = join(directory, 'ca.pem');

let server: EmbeddedPostgres;
let dataDir: string;

/** A server that takes only TLS, as managed ones do. */
beforeAll(async () => {
  dataDir = join(directory, 'tls');
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  server = await startEmbeddedPostgres({ dataDir, port: 0, durable: false, log });
  await serveCertificate(['127.0.0.1']);
  writeFileSync(caFile, authority.certificate);
  const { host, port, user, password, database } = server;
  const client = new pg.Client({ host, port, user, password, database });
  await client.connect();
  await client.query(readFileSync(projectFile('init.sql'), 'utf8'));
  await client.query('alter system set ssl = on');
  const hba = 'hostssl all all 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 reject\n';
  writeFileSync(join(dataDir, 'pg_hba.conf'), hba);
  await client.query('select pg_reload_conf()');
  await client.end();
  await vi.waitFor(async () => {
    const refused = new pg.Client({ host, port, user, password, database });
    await expect(refused.connect()).rejects.toThrow(/no encryption/);
  }, 10_000);
});
afterAll(async () => {
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function serveCertificate(names: readonly string[]): Promise<void> {
  const { certificate, key } = makeCertificate({ subject: 'db.test', names, issuer: authority });
  const { uid, gid } = statSync(dataDir);
  for (const [name, text] of [
    ['server.crt', certificate],
    ['server.key', key],
  ] as const) {
    const path = join(dataDir, name);
    writeFileSync(path, text);
    chownSync(path, uid, gid);
    chmodSync(path, 0o600);
  }
}

function config(ssl?: DatabaseSsl): DatabaseConfig {
  const { host, port, user, password, database } = server;
  const pool = { minPool: 0, maxPool: 1, commandTimeoutMs: 10_000 };
  return { host, port, user, password, database, ...pool, ...(ssl && { ssl }) };
}

/** @throws DatabaseError when it is not reached so */
async function reach(ssl: DatabaseSsl): Promise<void> {
  const bigbrotr = await Bigbrotr.connect(config(ssl), silent);
  await bigbrotr.close();
}

const failure = (attempt: Promise<unknown>) =>
  attempt.then(
    () => new Error('it did not fail'),
    (error: unknown) => error as DatabaseError,
  );

describe('a server that accepts only TLS', () => {
  test.each<DatabaseSsl>([
    { mode: 'require', ca: null },
    { mode: 'require', ca: authority.certificate },
    { mode: 'verify-ca', ca: authority.certificate },
    { mode: 'verify-full', ca: authority.certificate },
  ])('is reached with $mode', async (ssl) => {
    await reach(ssl);
    expect(await migrateArchive(config(ssl), config(ssl), silent)).toEqual([]);
  });

  test('refuses a connection without TLS; the error names encryption, not the password', async () => {
    const failed = await failure(Bigbrotr.connect(config(), silent));
    expect(failed).toMatchObject({ code: '28000', permanent: true });
    expect(failed.message).toMatch(/without encryption.*POSTGRES_SSL_MODE/);
    expect(failed.message).not.toContain('POSTGRES_PASSWORD');
  });

  test.each<DatabaseSsl>([
    { mode: 'require', ca: other.certificate },
    { mode: 'verify-ca', ca: other.certificate },
    { mode: 'verify-full', ca: other.certificate },
    { mode: 'verify-full', ca: null },
  ])('of an authority that is not trusted is refused with $mode', async (ssl) => {
    const failed = await failure(Bigbrotr.connect(config(ssl), silent));
    expect(failed).toMatchObject({ permanent: true });
    expect(failed.message).toMatch(/certificate is not accepted.*POSTGRES_SSL_CA/);
  });

  test('reports a wrong password as such', async () => {
    const wrong = { ...config({ mode: 'require', ca: null }), password: 'wrong' };
    const failed = await failure(Bigbrotr.connect(wrong, silent));
    expect(failed).toMatchObject({ code: '28P01', permanent: true });
    expect(failed.message).toContain('POSTGRES_PASSWORD');
  });

  test('under another name is accepted by verify-ca and refused by verify-full', async () => {
    await serveCertificate(['elsewhere.test']);
    const admin = new pg.Client({ ...config(), ssl: { rejectUnauthorized: false } });
    await admin.connect();
    await admin.query('select pg_reload_conf()');
    await admin.end();
    const { certificate: ca } = authority;
    await vi.waitFor(async () => {
      const failed = await failure(Bigbrotr.connect(config({ mode: 'verify-full', ca }), silent));
      expect(failed.message).toMatch(/certificate is not accepted.*POSTGRES_HOST/);
    }, 10_000);
    await reach({ mode: 'verify-ca', ca });
  });
});

describe('the settings of TLS', () => {
  const env = (parts: Record<string, string>) => ({
    POSTGRES_PASSWORD: 'secret',
    POSTGRES_OWNER_PASSWORD: 'secret too',
    ...parts,
  });

  test('are off by default, and also apply to the owner of the archive', () => {
    expect(loadDatabaseConfig(env({})).database.ssl).toBeUndefined();
    const given = env({ POSTGRES_SSL_MODE: 'verify-full', POSTGRES_SSL_CA: caFile });
    const ssl = { mode: 'verify-full', ca: authority.certificate };
    expect(loadDatabaseConfig(given).database.ssl).toEqual(ssl);
    const { database, owner } = loadInitializerConfig(given);
    expect([database.ssl, owner.ssl]).toEqual([ssl, ssl]);
  });

  test.each([
    [{ POSTGRES_SSL_MODE: 'prefer' }, /POSTGRES_SSL_MODE must be one of disable, require/],
    [{ POSTGRES_SSL_MODE: 'verify-ca' }, /verify-ca needs POSTGRES_SSL_CA/],
    [{ POSTGRES_SSL_CA: caFile }, /nothing would be encrypted/],
    [
      { POSTGRES_SSL_MODE: 'require', POSTGRES_SSL_CA: '/nothing/here' },
      /POSTGRES_SSL_CA names a file that cannot be read \(ENOENT\)/,
    ],
    [
      { POSTGRES_SSL_MODE: 'require', POSTGRES_SSL_CA: projectFile('init.sql') },
      /POSTGRES_SSL_CA names a file that holds no PEM certificate/,
    ],
  ])('%j are a mistake that is told', (parts, sentence) => {
    expect(() => loadDatabaseConfig(env(parts as Record<string, string>))).toThrow(sentence);
  });
});
