import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SCHEMA_VERSION } from '../../src/database/version.ts';
import { earlierArchiveSql } from '../postgres/earlier-archive.ts';
import {
  type Archive,
  createArchive,
  DROP,
  healthPorts,
  missing,
  PERMISSION_DENIED,
  refused,
  services,
  visiting,
  wanted,
} from './archive.ts';
import { RELAY_URL } from './relay-events.ts';
import { type ComposeStack, eventually } from './stack.ts';

// The commands of the documents, as people write them. Needs a Docker engine with Compose v2.

describe.skipIf(missing !== null)('commands', () => {
  let archive: Archive;
  let stack: ComposeStack;
  const asReader = (sql: string) => archive.asReader(sql);
  const asWriter = (sql: string) => archive.asWriter(sql);
  const archived = (where?: string) => archive.archived(where);
  const rights = () => archive.rights();
  const health = () => archive.health();
  const shell = (command: string) => stack.shell(command);
  const counts =
    'SELECT (SELECT count(*) FROM events)::int AS events, (SELECT count(*) FROM sightings)::int AS sightings, (SELECT count(*) FROM coverage)::int AS coverage';

  beforeAll(async () => {
    archive = await createArchive();
    stack = archive.stack;
    await archive.up();
    await eventually(
      'events',
      () => archived(),
      (ids) => ids.length >= wanted.length,
      5,
    );
  }, 20 * 60_000);

  afterAll(async () => {
    await stack?.down();
  }, 180_000);

  test('explain and status run in containers of their own', async () => {
    const explained = await stack.compose(['run', '--rm', 'explain', RELAY_URL], 3);
    expect(explained).toMatch(/^relay +url +ws:\/\/relay\.test/m);
    expect(explained).toMatch(/^events +held +[1-9]/m);
    expect(explained).toMatch(/^lists +blocklist +no \(\/app\/relay_blocklist\)/m);
    const status = await stack.compose(['run', '--rm', 'status'], 3);
    expect(status).toMatch(/^archive +events +[1-9]/m);
    for (const service of ['monitor', 'synchronizer', 'priority-synchronizer', 'finder'])
      expect(status).toMatch(new RegExp(` +${service} +(running|waiting)`));
    // The room on the disk of the database is seen, and none of its files.
    expect(status).toMatch(/^ +free on its disk +[\d.]+ [MGT]B$/m);
    await expect(stack.exec('monitor', 'ls', '/database-disk')).rejects.toThrow(
      /Permission denied/,
    );
    const json = await stack.compose(['run', '--rm', 'status', '--json'], 3);
    expect(JSON.parse(json.slice(json.indexOf('{')))).toHaveProperty('rows');
  });

  test('psql and the console of PgBouncer run inside the containers', async () => {
    const count = 'docker exec -it bigbrotr_database psql -U admin -d bigbrotr';
    expect(await shell(`${count} -c "SELECT COUNT(*) FROM events;"`)).toMatch(/^\s+[1-9]\d*$/m);
    expect(await shell(`echo 'SELECT 1 + 1 AS sum;' | ${count.replace('-it', '-i')}`)).toMatch(
      /^\s+2$/m,
    );
    expect(
      await shell(
        'docker exec -it bigbrotr_pgbouncer psql -p 6432 -U admin pgbouncer -c "SHOW POOLS;"',
      ),
    ).toMatch(/^\s*bigbrotr\s+\|\s+bigbrotr\s+\|/m);
  });

  test('logs, restart and stats work', async () => {
    const follow = (command: string) => shell(`timeout 5 ${command} || true`);
    expect(await follow('docker compose logs -f priority_synchronizer')).toMatch(
      /^bigbrotr_priority_synchronizer .*"level":"INFO"/m,
    );
    await shell('docker restart -t 30 bigbrotr_database');
    await eventually(
      'errors in capitals',
      () => follow('docker compose logs -f --tail=100 synchronizer | grep "ERROR"'),
      (lines) => /"level":"ERROR".*"msg":"database is down"/.test(lines),
    );
    await shell('docker compose restart monitor');
    expect(await shell('docker stats --no-stream bigbrotr_synchronizer bigbrotr_monitor')).toMatch(
      /bigbrotr_synchronizer[\s\S]*bigbrotr_monitor/,
    );
    await eventually('health', health, (all) => all.every((status) => status === 200));
  }, 300_000);

  test('a blocklist file that an editor replaces is read again in the containers', async () => {
    const next = join(stack.directory, 'new.txt');
    writeFileSync(next, `${RELAY_URL}\nnobody.example\n`);
    renameSync(next, join(stack.directory, 'blocklist.txt'));
    for (const service of visiting)
      await eventually(
        `${service} has read the list`,
        () => stack.compose(['logs', '--no-color', service]),
        (lines) => /"entries":2,"msg":"blocklist read"/.test(lines),
      );
    writeFileSync(join(stack.directory, 'blocklist.txt'), '# nobody again\n');
    await eventually('health', health, (all) => all.every((status) => status === 200));
  }, 300_000);

  test('an SQL dump can be restored into an empty database, and not into an archive', async () => {
    const dump = join(stack.directory, 'backup.sql.gz');
    const restore = `gunzip -c ${dump} | docker exec -i bigbrotr_database psql -U admin bigbrotr`;
    await stack.compose(['stop', ...services]);
    const before = await asReader(counts);
    await shell(`docker exec bigbrotr_database pg_dump -U admin bigbrotr | gzip > ${dump}`);
    await expect(shell(restore)).rejects.toThrow(
      /this database holds an archive.*Nothing was changed[\s\S]*restore\.sh/,
    );
    expect(await asReader(counts)).toEqual(before);
    const admin = 'docker exec bigbrotr_database psql -U admin -d postgres -c';
    const empty = () =>
      shell(`${admin} '${DROP}' && ${admin} 'CREATE DATABASE bigbrotr OWNER bigbrotr_owner'`);
    await empty();
    const part = restore.replace('|', '| head -c 150000 |');
    await expect(shell(part)).rejects.toThrow(/not restored, see above. Nothing was changed/);
    await shell(restore);
    expect(await asReader(counts)).toEqual(before); // the services change them again
    await stack.up([...services, 'test_relay']);
    expect(await archived()).toEqual(wanted);
  }, 300_000);

  test('restore.sh refuses while services run, and replaces the archive with --force', async () => {
    const dump = join(stack.directory, 'backup.sql.gz');
    const restore = `gunzip -c ${dump} | docker compose exec -T postgres /opt/bigbrotr/restore.sh`;
    await expect(shell(restore)).rejects.toThrow(/services are working on the archive/);
    expect(await archived()).toEqual(wanted);
    expect(await shell(`${restore} --force`)).toMatch(/the archive is as the backup has it/);
    await stack.up([...services, 'test_relay']);
    expect(await archived()).toEqual(wanted);
  }, 300_000);

  test('more workers run as docs/hosts.md describes', async () => {
    const scale = (count: number) =>
      shell(
        `docker compose --profile workers up -d --wait --scale synchronizer-worker=${count} synchronizer-worker`,
      );
    const running = () => shell('docker compose --profile workers ps -q synchronizer-worker');
    await scale(2);
    expect((await running()).trim().split('\n')).toHaveLength(2);
    expect(await health()).toEqual(healthPorts.map(() => 200));
    await shell('docker compose --profile workers rm -sf synchronizer-worker');
    expect(await running()).toBe('');
  }, 300_000);

  test('a second synchronizer is refused before anything is changed', async () => {
    const containers = () => shell('docker compose ps -aq');
    const before = await containers();
    await expect(shell('docker compose up -d --scale synchronizer=2 synchronizer')).rejects.toThrow(
      /"synchronizer" service is using the custom container name/,
    );
    expect(await containers()).toBe(before);
  });

  test('backup and restore work as docs/containers.md describes', async () => {
    await stack.compose(['stop', ...services]);
    const before = await asReader(counts);
    const script = (name: string) => ['exec', '-T', 'postgres', `/opt/bigbrotr/${name}`];
    await stack.redirect(script('backup.sh'), { output: 'bigbrotr.dump' });
    await stack.exec('postgres', 'psql', '-qU', 'postgres', '-c', DROP);
    await stack.redirect(script('restore.sh'), { input: 'bigbrotr.dump' });
    expect(await asReader(counts)).toEqual(before);
    await stack.up([...services, 'test_relay']);
    const verify = ['node', 'dist/verify.js'];
    const read = await stack.compose(['run', '--rm', '--no-deps', 'initializer', ...verify]);
    expect(read).toMatch(/^[1-9]\d* events read back, 0 different/);
    expect(await archived()).toEqual(wanted);
    expect(await health()).toEqual(healthPorts.map(() => 200));
  }, 300_000);

  test('an archive of the unreleased version is migrated by `up` without any further step', async () => {
    const rightsOfANewOne = await rights();
    await stack.compose(['stop', ...services]);
    writeFileSync(join(stack.directory, 'earlier.sql'), earlierArchiveSql());
    const psql = ['exec', '-T', 'postgres', 'psql', '-qU', 'postgres', '-v', 'ON_ERROR_STOP=1'];
    const create = 'CREATE DATABASE bigbrotr OWNER bigbrotr_owner';
    for (const sql of [DROP, create]) await stack.compose([...psql, '-c', sql]);
    const asOwner = ['-d', 'bigbrotr', '-c', 'SET ROLE bigbrotr_owner', '-f', '-'];
    await stack.redirect([...psql, ...asOwner], { input: 'earlier.sql' });
    await stack.up([...services, 'test_relay']);
    const migrated = await asReader('SELECT name FROM schema_migrations ORDER BY id DESC LIMIT 1');
    expect(migrated).toEqual([{ name: SCHEMA_VERSION }]);
    expect(await health()).toEqual(healthPorts.map(() => 200));
    expect(await rights()).toEqual(rightsOfANewOne);
    await asWriter('SELECT rebuild_relay_states(relay_id, 60) FROM relays');
    const record = "INSERT INTO schema_migrations (name) VALUES ('9999_mine')";
    expect(await refused(asWriter(record))).toBe(PERMISSION_DENIED);
  }, 300_000);
});
