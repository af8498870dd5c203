import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { writeGeoipFile } from '../fixtures/geoip-file.ts';
import { makeCertificate } from '../network/certificates.ts';
import { startTlsFront } from '../network/tls-front.ts';
import { stackTest } from '../processes/stack-test.ts';

const test = stackTest.extend(
  'monitor',
  ({ stack }) =>
    (env: Record<string, string> = {}) =>
      stack.start('monitor', ['--once'], env),
);

test('the monitor runs the configured checks, and the queries of the README find their results', async ({
  startRelay,
  stack,
  database,
  monitor,
}) => {
  const relay = await startRelay({
    events: signedEvents(20, { from: 1, to: 99, kinds: [1] }),
    nip11: { document: { name: 'claims', supported_nips: [1, 77], software: 'scripted' } },
    verbs: { 'NEG-OPEN': ([, id], reply) => reply('NEG-ERR', id, 'negentropy is disabled') },
  });
  const expired = makeCertificate({ notAfter: new Date(Date.now() - 60_000) });
  const front = await startTlsFront(expired, relay.port);
  const gone = await startRelay();
  await gone.stop();
  onTestFinished(() => front.stop());
  const [city, asn] = ['city.mmdb', 'asn.mmdb'].map((name) => join(stack.folder, name));
  writeGeoipFile(city ?? '', 'City', { '127.0.0.0/8': { country: { iso_code: 'CH' } } });
  writeGeoipFile(asn ?? '', 'ASN', { '127.0.0.0/8': { autonomous_system_number: 64_500 } });
  const urls = [relay.url, `wss://127.0.0.1:${front.port}`, gone.url];
  for (const url of urls) await database.query("select insert_relay($1, 'clearnet')", [url]);

  const program = monitor({ GEOIP_CITY_PATH: city ?? '', GEOIP_ASN_PATH: asn ?? '' });
  expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
  expect(program.err).toEqual([]);

  const facts = await database.query(
    `select readable, country, asn, tls_valid, tls_problem, nip77, supported_nips @> '77' as claims
     from relay_facts order by array_position($1, relay_url)`,
    [urls],
  );
  const nothing = { country: null, asn: null, nip77: null, claims: null };
  expect(facts).toEqual([
    {
      ...{ readable: true, country: 'CH', asn: '64500', tls_valid: null, tls_problem: null },
      ...{ nip77: false, claims: true },
    },
    { ...nothing, readable: false, tls_valid: false, tls_problem: expect.stringMatching(/CERT/) },
    { ...nothing, readable: false, tls_valid: null, tls_problem: null },
  ]);
  const names = await database.query<{ name: string }>(
    'select name from relay_checks_latest where relay_url = $1 order by name',
    [relay.url],
  );
  expect(names.map(({ name }) => name)).toEqual(
    ['capabilities', 'geo', 'http', 'net', 'nip11', 'open', 'read', 'write'], // it has no TLS and no name
  );
});

test('an invalid GeoIP database is reported before anything starts', async ({
  database,
  monitor,
  stack,
}) => {
  await database.query("select insert_relay('ws://127.0.0.1:9', 'clearnet')");
  const program = monitor({ GEOIP_CITY_PATH: join(stack.folder, 'missing.mmdb') });
  expect(await program.ended).toMatchObject({ code: 1 });
  expect(program.said).toMatch(
    /GEOIP_CITY_PATH must name a readable file in the MaxMind format: .*missing\.mmdb/,
  );
  expect(await database.query('select from snapshots')).toEqual([]);
});
