/** NIP-11 answers that do everything wrong that we know of, met by the monitor as people run it, all in one round. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { expect } from 'vitest';
import { startRawServer } from '../network/raw-server.ts';
import { stackTest } from '../processes/stack-test.ts';
import { watchUsage } from '../processes/usage.ts';
import { HTML_PAGE, type Nip11Answer, nip11Document } from '../relay/scripted-relay.ts';

const TIMEOUT_SECONDS = 4;

const test = stackTest
  /** Where redirects lead: a host that is none of the relay's. */
  .extend('elsewhere', async ({ stack: _endsFirst }, { onCleanup }) => {
    const server = await startRawServer((socket) => {
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}');
    });
    onCleanup(() => server.close());
    return server;
  })
  /** A server that is no relay, and whose document of 100 KB inflates to 100 MB. */
  .extend('bomb', async ({ stack: _endsFirst }, { onCleanup }): Promise<string> => {
    const compressed = gzipSync(Buffer.alloc(100 << 20, ' '), { level: 9 });
    const server = createServer((_request, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(compressed);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onCleanup(() => {
      server.closeAllConnections();
      server.close();
    });
    return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });

const document = (parts: object): Nip11Answer => ({ document: nip11Document({ ...parts }) });
const body = (text: string): Nip11Answer => ({ body: text });
const redirect = (to: string, status = 302): Nip11Answer => ({ redirect: to, status });
const nested = '['.repeat(100_000) + ']'.repeat(100_000);

/** What is kept of a document; `null`: there is none. */
type Kept = Readonly<Record<string, unknown>> | null;
type Row = readonly [name: string, answer: Nip11Answer, reason: string | null, kept: Kept];

/** Relays that answer REQs well; only their document is odd. */
function rows(port: number): readonly Row[] {
  const plain = { name: 'a scripted relay' };
  return [
    ['a plain document', document({}), null, plain],
    ['100 MB', { hugeBytes: 100 << 20 }, 'too_large', null],
    ['a byte a second', { drip: { everyMs: 1000 } }, 'timeout', null],
    ['nothing', 'silent', 'timeout', null],
    ['the end of the connection', 'hang-up', 'reset', null],
    ['a redirect to another port', redirect(`http://127.0.0.1:${port}/`), 'redirect', null],
    ['a redirect to another name', redirect(`http://localhost:${port}/`, 301), 'redirect', null],
    ['a redirect to IPv6', redirect(`http://[::ffff:127.0.0.1]:${port}/`, 307), 'redirect', null],
    ['a redirect to another scheme', redirect('file:///etc/passwd', 308), 'redirect', null],
    ['a redirect to itself', redirect('/'), 'redirect', null],
    ['a redirect to nowhere', redirect('http://'), 'redirect', null],
    ['a web page', body(HTML_PAGE), 'not_json', null],
    ['status 404', { status: 404 }, 'http_404', null],
    ['an array', body('[]'), 'not_object', null],
    ['a number', body('17'), 'not_object', null],
    ['nothing at all', body(''), 'not_json', null],
    ['deep JSON', body(nested), 'not_object', null],
    ['a deep member', body(`{"name":"x","deep":${nested}}`), null, { name: 'x' }],
    [
      'wrong types',
      document({ name: 17, supported_nips: 'all', limitation: [], pubkey: {}, icon: [null] }),
      null,
      { name: null, supported_nips: null, limitation: null, pubkey: null, icon: null },
    ],
    [
      'wrong types inside',
      document({
        supported_nips: [1, '2', null, -3, 4.5, 1e300, 77],
        limitation: { max_limit: '9' },
      }),
      null,
      { supported_nips: [1, 77], limitation: {} },
    ],
    [
      '__proto__ everywhere',
      body(
        '{"name":"x","__proto__":{"name":"y","polluted":1},"constructor":{"prototype":{"polluted":1}},' +
          '"limitation":{"__proto__":{"max_limit":1},"max_limit":7}}',
      ),
      null,
      {
        name: 'x',
        limitation: { max_limit: 7 },
        extra_fields: { constructor: { prototype: { polluted: 1 } } }, // data like any other
      },
    ],
    [
      'NUL and lone surrogates',
      body('{"name":"a\\u0000b","description":"\\ud800","contact":"ok","\\u0000":1,"x":"\\udfff"}'),
      null,
      { name: null, description: null, contact: 'ok', extra_fields: null },
    ],
    [
      'numbers beyond numbers',
      body(
        '{"name":"x","limitation":{"max_limit":1e400,"min_prefix":-1e400},"far":1e400,"n":1e308}',
      ),
      null,
      { name: 'x', limitation: {}, extra_fields: { n: 1e308 } },
    ],
    [
      'a thousand members of its own',
      document(Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`x${n}`, n]))),
      null,
      plain,
    ],
    ['a name of 200 KB', document({ name: 'n'.repeat(200_000) }), null, {}],
  ];
}

interface Checked {
  readonly readable: boolean;
  readonly nip11_id: Buffer | null;
  readonly extra_fields: object | null;
  readonly [column: string]: unknown;
}

test('each odd NIP-11 answer leads to a snapshot and a reason, and none costs another relay its check', async ({
  startRelay,
  stack,
  database,
  elsewhere,
  bomb,
}) => {
  const cases = rows(elsewhere.port);
  const relays = await Promise.all(cases.map(([, nip11]) => startRelay({ nip11, events: [] })));
  await stack.relays([...relays.map(({ url }) => url), bomb]);
  const initializer = stack.start('initializer');
  expect(await initializer.ended, initializer.said).toEqual({ code: 0, signal: null });

  const began = performance.now();
  const monitor = stack.start('monitor', ['--once'], {
    MONITOR_REQUEST_TIMEOUT: String(TIMEOUT_SECONDS),
    MONITOR_REQUESTS_PER_CORE: '100',
    LOG_LEVEL: 'debug',
  });
  const watched = watchUsage(monitor);
  expect(await monitor.ended, monitor.said).toEqual({ code: 0, signal: null });
  console.log(
    `${cases.length + 1} relays checked in ${((performance.now() - began) / 1000).toFixed(1)} s, ` +
      `deadline of a step ${TIMEOUT_SECONDS} s`,
  );
  expect(elsewhere.total).toBe(0); // nobody was led anywhere
  expect(monitor.out.length + monitor.err.length).toBeLessThan(3 * cases.length);
  expect(Math.max(...monitor.out.map((line) => line.length))).toBeLessThan(2000);
  expect(monitor.log.filter(({ level }) => /^(ERROR|FATAL)$/.test(level))).toEqual([]);
  const used = watched.stop();
  console.log(`${used?.megabytes ?? '?'} MB at most, ${monitor.out.length} lines of log`);
  if (used !== null) expect(used.megabytes).toBeLessThan(300);

  const checked = new Map(
    (await database.query<Checked>('select * from relay_metadata_latest order by relay_url')).map(
      (row) => [row.relay_url, row],
    ),
  );
  expect(checked.size).toBe(cases.length + 1);
  const told = new Map(
    monitor.log.filter(({ msg }) => msg === 'relay checked').map((line) => [line.relay, line]),
  );
  for (const [index, [name, , reason, kept]] of cases.entries()) {
    const relay = relays[index];
    const row = checked.get(relay?.url);
    expect(relay?.fetches.length, name).toBeGreaterThan(0);
    expect(told.get(relay?.url)?.nip11Reason, name).toBe(reason);
    expect(row?.readable, name).toBe(true);
    expect(row?.nip11_id === null, name).toBe(kept === null);
    if (kept) expect(row, name).toMatchObject(kept);
    expect(JSON.stringify(row?.extra_fields ?? {}).length, name).toBeLessThan(40_000);
  }
  expect(told.get(bomb)).toMatchObject({ nip11Reason: 'too_large', openable: false });
  expect(checked.get(bomb)).toMatchObject({ readable: false, reason: 'http_200', nip11_id: null });
});
