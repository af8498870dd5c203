import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { forge, makeKeys, signedEvent } from '../fixtures/events.ts';
import { batchOf, closeGate, knownRelay } from '../postgres/bigbrotr.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import type { LogLine } from '../processes/programs.ts';
import { stackTest } from '../processes/stack-test.ts';
import { threadDeath } from '../processes/thread-death.ts';
import { closed, HTML_PAGE, unanswered } from '../relay/scripted-relay.ts';

const NOW = Math.floor(Date.now() / 1000);
const KEYS = makeKeys(20, 9);
const SUCCESS = { code: 0, signal: null };

const test = stackTest
  /** Archives events as a synchronizer does. */
  .extend('archive', ({ bigbrotr }) => async (events: readonly NostrEvent[]): Promise<void> => {
    const on = await knownRelay(bigbrotr, 'archived');
    const filterId = await bigbrotr.filterId({});
    await bigbrotr.store(batchOf({ relay: on, filterId, events }));
  })
  /** Resolves when the transactions of a killed process are rolled back. */
  .extend('untilGone', ({ database }) => async (): Promise<void> => {
    const scanning = `select from pg_stat_activity where datname = current_database() and query ~ 'named_relays'
    and state <> 'idle' and pid <> pg_backend_pid()`;
    for (let tries = 0; (await database.query(scanning)).length > 0; tries += 1) {
      if (tries > 500) throw new Error('the killed scan still has its transaction');
      await sleep(10);
    }
  })
  .extend('states', ({ database }) => async (): Promise<Record<string, unknown>> => {
    const rows = await database.query<{ relay_url: string; said: string }>(
      `select p.relay_url, coalesce(c.reason, p.state) as said
     from relay_provenance p left join relay_candidates c using (relay_url)`,
    );
    return Object.fromEntries(rows.map(({ relay_url, said }) => [relay_url, said]));
  })
  .extend('known', ({ database }) => async (): Promise<string[]> => {
    const rows = await database.query<{ url: string }>('select url from relays');
    return rows.map(({ url }) => url).sort();
  })
  /** A web server that answers with this text, or redirects. */
  .extend('web', ({ onTestFinished }) => async (body: string, location?: string) => {
    let fetched = 0;
    const server = createServer((_, response) => {
      fetched += 1;
      if (location) response.writeHead(302, { location }).end();
      else response.end(body);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(async () => void server.close());
    const { port } = server.address() as AddressInfo;
    return { url: `http://127.0.0.1:${port}/list`, fetched: () => fetched };
  });

const naming = (author: number, urls: readonly string[], kind = 10_002, created_at = NOW - 500) =>
  signedEvent({
    created_at,
    kind,
    tags: kind === 30_166 ? [['d', urls[0] ?? '']] : urls.map((url) => ['r', url]),
    ...(KEYS[author] && { secretKey: KEYS[author].secretKey }),
  });

/** A port where nobody listens. */
async function closedPort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return `ws://127.0.0.1:${port}`;
}

test.beforeEach(({ stack, database: _used }) => stack.relays([], []));

describe.concurrent('a candidate', () => {
  test('becomes a relay by EOSE, an event or a NIP-42 challenge, and by nothing else', async ({
    startRelay,
    archive,
    runOnce,
    states,
    known,
  }) => {
    const [full, empty, locked, refusing, silent, page, nobody] = await Promise.all([
      startRelay({ events: [signedEvent({ created_at: NOW - 9 })], quirk: { end: 'silence' } }),
      startRelay(),
      startRelay({ auth: {} }),
      startRelay({ quirk: closed('blocked: not you') }),
      startRelay({ quirk: unanswered }),
      startRelay({ upgrade: { status: 200, body: HTML_PAGE } }),
      closedPort(),
    ]);
    const urls = [full, empty, locked, refusing, silent, page].map(({ url }) => url);
    await archive([naming(0, [...urls, nobody, 'no relay', 'ws://relay.i2p'])]);
    const program = await runOnce('finder');
    expect(await states()).toEqual({
      [full.url]: 'relay',
      [empty.url]: 'relay',
      [locked.url]: 'relay',
      [refusing.url]: 'blocked',
      [silent.url]: 'timeout',
      [page.url]: 'http_200',
      [nobody]: 'refused',
      'ws://relay.i2p': 'candidate', // nothing here leads there
    });
    expect(await known()).toEqual(
      ['wss://archived.example.com', full.url, empty.url, locked.url].sort(),
    );
    expect(program.log.filter(({ msg }) => msg === 'relay found')).toHaveLength(3);
    const before = urls.length + [full, empty].reduce((sum, one) => sum + one.connections.total, 0);
    await runOnce('finder');
    const after = urls.length + [full, empty].reduce((sum, one) => sum + one.connections.total, 0);
    expect(after).toBe(before); // those that answered are the monitor's, the others wait
    expect(silent.connections.total).toBe(2); // the second one to request older events, in the first run
  });

  test('that is blocked, or was blocked since it was named, is never contacted', async ({
    startRelay,
    archive,
    stack,
    runOnce,
    states,
  }) => {
    const [one, other] = await Promise.all([startRelay(), startRelay()]);
    await archive([naming(0, [one.url, other.url])]);
    const RELAY_BLOCKLIST_PATH = await stack.write('blocked.txt', `${one.url}\n`);
    await runOnce('finder', { RELAY_BLOCKLIST_PATH });
    expect(one.connections.total).toBe(0);
    expect(await states()).toEqual({ [other.url]: 'relay' });
  });
});

describe.concurrent('a flood of invented names', () => {
  test('by one author causes at most sixty connections an hour, and does not delay other candidates', async ({
    startRelay,
    archive,
    runOnce,
    database,
    states,
  }) => {
    const honest = await startRelay();
    const address = (index: number) => `ws://127.1.${index >> 8}.${index & 255}:9`;
    const invented = Array.from({ length: 900 }, (_, index) => address(index * 37));
    await archive([naming(0, invented), naming(1, [honest.url])]);
    for (let rounds = 0; rounds < 2; rounds += 1) await runOnce('finder');
    const [row] = await database.query(
      `select count(*) filter (where tries > 0)::integer as tried, count(*)::integer as names from relay_candidates`,
    );
    expect(row).toEqual({ tried: 60, names: 900 });
    expect(await states()).toMatchObject({ [honest.url]: 'relay' });
  });

  test('on one host causes at most sixteen connections, whatever the number of authors', async ({
    startRelay,
    archive,
    runOnce,
    known,
  }) => {
    const open = await startRelay();
    for (let author = 0; author < 20; author += 1) {
      const paths = Array.from({ length: 50 }, (_, index) => `${open.url}/${author}/${index}`);
      await archive([naming(author, paths)]);
    }
    await runOnce('finder');
    expect(open.connections.total).toBe(16);
    expect((await known()).filter((url) => url.startsWith(open.url))).toHaveLength(16);
  });
});

describe.concurrent('a finder that is killed while it scans events', () => {
  test('loses nothing and repeats nothing', async ({
    startRelay,
    archive,
    database,
    stack,
    untilGone,
    runOnce,
  }) => {
    const found = await startRelay();
    const nobody = await closedPort();
    for (let author = 0; author < 15; author += 1)
      await archive([naming(author, [found.url, nobody]), naming(author, [nobody], 10_050)]);
    const gate = await closeGate(database, 'named_relays');
    const killed = stack.start('finder', []);
    await gate.waiting(1);
    killed.signal('SIGKILL');
    expect(await killed.ended).toEqual({ code: null, signal: 'SIGKILL' });
    await gate.open();
    await untilGone();
    const unread = () =>
      database.query(
        `select from journal j, journal_readers r
         where r.name = 'finder' and (j.xid, j.batch_id) > (r.xid, r.batch_id)`,
      );
    expect(await unread()).toHaveLength(15);
    await runOnce('finder');
    const rows = await database.query(
      'select relay_url, times::integer, authors, state from relay_provenance',
    );
    expect(rows).toHaveLength(2);
    expect(rows).toContainEqual({ relay_url: found.url, times: 15, authors: 15, state: 'relay' });
    expect(rows).toContainEqual({ relay_url: nobody, times: 15, authors: 15, state: 'candidate' });
    expect(await unread()).toEqual([]);
  });
});

describe.concurrent('a database that refuses to store candidates', () => {
  test('makes the finder unready until it stores them again, and no candidate is lost', async ({
    archive,
    database,
    stack,
  }) => {
    const nobody = await closedPort();
    await archive([naming(0, [nobody])]);
    await database.query(`create function refuse() returns trigger language plpgsql as $$ begin
        raise exception 'could not extend file' using errcode = '53100';
      end $$`);
    await database.query(
      'create trigger full_disk before insert on named_relays execute function refuse()',
    );
    const program = stack.start('finder', []);
    const port = await healthPort(program, 'finder');
    await untilHealth(
      port,
      ({ status, body }) => status === 503 && body.storing === 'fails',
      60_000,
    );
    await database.query('drop trigger full_disk on named_relays');
    const { body } = await untilHealth(port, ({ status }) => status === 200, 60_000);
    expect(body).toMatchObject({ storing: 'works', counts: { events_scanned: 1, candidates: 1 } });
    expect(await database.query('select times::integer from relay_provenance')).toEqual([
      { times: 1 },
    ]);
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
  });
});

describe.concurrent('a worker that dies repeatedly', () => {
  test('delays no candidate, although subscriptions to relays never end', async ({
    startRelay,
    stack,
    archive,
    states,
  }) => {
    const [priority, found] = await Promise.all([startRelay(), startRelay()]);
    await stack.relays([], [priority.url]);
    const death = await threadDeath(stack);
    const program = stack.start('finder', [], death.env);
    await priority.until(
      ({ requests }) => requests.some(({ filters }) => filters[0]?.limit === 0),
      'a subscription',
      30_000,
    );
    const isReady = ({ level, thread }: LogLine) => level === 'INFO' && thread === 'worker-1';
    for (let lives = 1; lives <= 3; lives += 1) {
      await program.until(() => program.log.filter(isReady).length === lives, `life ${lives}`);
      if (lives < 3) death.come();
    }
    await archive([naming(0, [found.url])]);
    await program.logged(({ msg }) => msg === 'relay found', 'a relay found');
    expect(await states()).toEqual({ [found.url]: 'relay' });
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
  });
});

describe.concurrent('other sources', () => {
  test('lists over HTTP are read in any JSON shape or as text, and not after a redirect to another host', async ({
    startRelay,
    runOnce,
    known,
    database,
    web,
  }) => {
    const [one, two, three, four] = await Promise.all([
      startRelay(),
      startRelay(),
      startRelay(),
      startRelay(),
    ]);
    const json = await web(JSON.stringify({ relays: [{ url: one.url }], [two.url]: 1 }));
    const text = await web(`# good ones\n- ${three.url}, and so on\nrelay.example.com`);
    const elsewhere = await web(four.url);
    const redirect = await web('', elsewhere.url.replace('127.0.0.1', '127.0.0.2'));
    const FINDER_URLS = [json, text, redirect].map(({ url }) => url).join(' ');
    const program = await runOnce('finder', { FINDER_URLS });
    expect(await known()).toEqual([one.url, two.url, three.url].sort());
    expect(program.log).toContainEqual(
      expect.objectContaining({ level: 'WARN', url: redirect.url, reason: 'redirect' }),
    );
    const rows = await database.query('select distinct first_source, listed from relay_provenance');
    expect(rows).toEqual([{ first_source: 'list', listed: true }]);
  });

  test('are read by one of two finders, and by the other when the first has died', async ({
    startRelay,
    stack,
    known,
    database,
    web,
    expect,
  }) => {
    const [one, priority] = await Promise.all([startRelay(), startRelay()]);
    const list = await web(JSON.stringify([one.url]));
    await stack.relays([], [priority.url]);
    const env = { FINDER_URLS: list.url, BIGBROTR_LEASE_SECONDS: '3' };
    const first = stack.start('finder', [], env);
    await expect.poll(known, { timeout: 30_000 }).toContain(one.url);
    const second = stack.start('finder', [], env);
    await healthPort(second, 'finder');
    await sleep(4000); // longer than the lease
    expect(list.fetched()).toBe(1);
    const follows = () =>
      priority.requests.filter(
        ({ filters }) => filters[0]?.kinds?.[0] === 30_166 && filters[0]?.limit === 0,
      );
    expect(follows()).toHaveLength(1);
    expect(
      await database.query("select relay_url, is_valid from claimed_relays where work = 'sources'"),
    ).toEqual([{ relay_url: null, is_valid: true }]);
    const naming = 'select times::integer from named_relays where url = $1';
    expect(await database.query(naming, [one.url])).toEqual([{ times: 1 }]);
    first.signal('SIGKILL');
    await expect.poll(() => list.fetched(), { timeout: 40_000 }).toBe(2);
    await expect.poll(() => follows().length, { timeout: 20_000 }).toBe(2);
  });

  test('reports of other monitors on the priority relays are read, except forged ones', async ({
    startRelay,
    stack,
    runOnce,
    states,
  }) => {
    const [one, two, forged] = await Promise.all([startRelay(), startRelay(), startRelay()]);
    const events = [
      naming(0, [one.url], 30_166),
      forge(naming(1, [forged.url], 30_166), 'signature'),
      naming(2, [forged.url]), // of another kind: it was not asked for
    ];
    const priority = await startRelay({ events, quirk: { ignore: ['kinds'] } });
    await stack.relays([], [priority.url]);
    await runOnce('finder');
    expect(await states()).toEqual({ [one.url]: 'relay' });

    const program = stack.start('finder', []);
    const port = await healthPort(program, 'finder');
    await priority.until(({ requests }) => requests.length >= 3, 'a subscription', 30_000);
    priority.publish(naming(3, [two.url], 30_166, NOW));
    await untilHealth(port, ({ body }) => {
      const { counts } = body as { counts: Record<string, number> };
      return counts.relays_found === 1;
    });
    expect(await states()).toEqual({ [one.url]: 'relay', [two.url]: 'relay' });
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
  });

  test('are waited for without a warning of Node.js when many are unreachable', async ({
    stack,
  }) => {
    const away = await Promise.all(Array.from({ length: 20 }, () => closedPort()));
    await stack.relays([], away);
    const program = stack.start('finder', [], { LOG_LEVEL: 'debug' });
    const isOver = ({ msg }: LogLine) => msg === 'reports are no longer followed';
    await program.until(() => program.log.filter(isOver).length === away.length, 'all are away');
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
    expect(program.err).toEqual([]);
  });

  test('that cannot be requested are reported before anything starts', async ({ stack }) => {
    const program = stack.start('finder', ['--once'], {
      FINDER_URLS: 'ftp://a.net http://u:p@b.net',
    });
    expect(await program.ended).toEqual({ code: 1, signal: null });
    expect(program.said).toMatch(
      /FINDER_URLS must hold http:\/\/ or https:\/\/ URLs.*"ftp:\/\/a\.net"/,
    );
    expect(program.said).toContain('b.net');
  });
});
