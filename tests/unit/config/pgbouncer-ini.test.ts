import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { projectFile } from '../../processes/project.ts';

const read = (path: string) => readFileSync(projectFile(path), 'utf8');
const compose: { services: Record<string, { command?: readonly string[] }> } = parse(
  read('docker-compose.yml'),
  { merge: true },
);

describe('pgbouncer.ini', () => {
  const settings = Object.fromEntries(
    [...read('pgbouncer.ini').matchAll(/^(\w+) =[^\S\n]*(.*)$/gm)].map(([, name, value]) => [
      name,
      value,
    ]),
  );

  test('pools transactions of 1,000 clients over at most 100 connections', () => {
    expect(settings).toMatchObject({
      pool_mode: 'transaction',
      max_client_conn: '1000',
      max_db_connections: '100',
    });
  });

  test('leaves connections of PostgreSQL to people and migrations, also beside the instance for other hosts', () => {
    const command = compose.services.postgres?.command?.join(' ') ?? '';
    const accepted = Number(/max_connections=(\d+)/.exec(command)?.[1]);
    const entrypoint = read('dockerfiles/pgbouncer/entrypoint.sh');
    const [, tls = ''] = /cat >tls\.ini <<'INI'\n([\s\S]*?)\nINI/.exec(entrypoint) ?? [];
    expect(tls).toContain('client_tls_sslmode = require');
    const ofOtherHosts = Number(/^max_db_connections = (\d+)$/m.exec(tls)?.[1]);
    expect(ofOtherHosts).toBeGreaterThan(0);
    // 3 are kept for superusers (superuser_reserved_connections).
    expect(
      accepted - 3 - Number(settings.max_db_connections) - ofOtherHosts,
    ).toBeGreaterThanOrEqual(20);
    expect(Number(settings.default_pool_size)).toBeLessThanOrEqual(100);
  });

  test('reconnects quickly when PostgreSQL is back', () => {
    expect(settings).toMatchObject({ server_login_retry: '1', dns_nxdomain_ttl: '1' });
  });

  test('has no list of passwords and authenticates through the function only', () => {
    expect(settings.auth_query).toMatch(
      /^SELECT username, secret FROM pgbouncer\.secret_of\(\$1\)$/,
    );
    expect(read('dockerfiles/pgbouncer/hba.conf')).not.toMatch(/\b(trust|any|md5|plain)\s*$/m);
    expect(settings.ignore_startup_parameters).toBe('extra_float_digits');
  });
});
