import { afterEach, describe, expect, test } from 'vitest';
import { fetchRelayList } from '../../../src/finder/relay-list.ts';
import { fetchNip11 } from '../../../src/monitor/checks/nip11-fetch.ts';
import { RelayError } from '../../../src/network/relay-error.ts';
import { retryAfterSeconds } from '../../../src/network/retry-after.ts';
import { connectRelay } from '../../../src/relay-client/connection.ts';
import { startSocksProxy } from '../../network/socks-proxy.ts';
import { ONION_HOST } from '../../network/tls-certificate.ts';
import { local, relayUrl } from '../../relay/relays.ts';
import { type ScriptedRelay, startScriptedRelay } from '../../relay/scripted-relay.ts';

const NOW = Date.parse('Sun, 06 Nov 1994 08:49:00 GMT');
const DAY = 86_400;

describe('Retry-After (RFC 9110 section 10.2.3)', () => {
  test.each<[string | undefined, number | null]>([
    ['120', 120],
    [' 7200 ', 7200],
    ['0', null],
    ['86400', DAY],
    ['86401', DAY],
    ['999999999999', DAY],
    ['Sun, 06 Nov 1994 08:49:37 GMT', 37],
    ['Sunday, 06-Nov-94 08:49:37 GMT', 37],
    ['Sun Nov  6 08:49:37 1994', 37],
    ['Sun, 06 Nov 1994 08:48:00 GMT', null],
    ['Sun, 06 Nov 2044 08:49:37 GMT', DAY],
    ['Sun, 06 Nov 1994 08:49:37 +0100', null],
    ['Sun, 99 Nov 1994 08:49:37 GMT', null],
    ['-5', null],
    ['1.5', null],
    ['1e3', null],
    ['0x10', null],
    ['soon', null],
    ['1994', 1994],
    ['', null],
    [undefined, null],
  ])('"%s" is %s seconds', (header, seconds) => {
    expect(retryAfterSeconds(header, NOW)).toBe(seconds);
  });
});

describe('a server that refuses with Retry-After', () => {
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  async function refusing(status: number, headers: Record<string, string>): Promise<ScriptedRelay> {
    const relay = await startScriptedRelay({
      upgrade: { status, headers },
      nip11: { status, headers },
    });
    closing.push(() => relay.stop());
    return relay;
  }
  const failureOf = (relay: { url: string }, options = local({ timeoutMs: 5000 })) =>
    connectRelay(relayUrl(relay.url), options).then(
      () => null,
      (error: unknown) => (error instanceof RelayError ? error : null),
    );

  test.each([
    [429, 'http_429'],
    [503, 'http_503'],
    [403, 'http_403'],
  ])('sets the pause by status %i of the WebSocket upgrade', async (status, reason) => {
    const relay = await refusing(status, { 'retry-after': '7200' });
    expect(await failureOf(relay)).toMatchObject({ reason, retryAfterSeconds: 7200 });
    expect(relay.fired.upgrade).toBe(1);
    await relay.until(({ connections }) => connections.open === 0);
  });

  test('sets it through Tor as well', async () => {
    const relay = await refusing(429, { 'retry-after': '600' });
    const proxy = await startSocksProxy({ target: () => relay.port });
    closing.push(() => proxy.close());
    const torProxy = { host: '127.0.0.1', port: proxy.port };
    expect(
      await failureOf({ url: `ws://${ONION_HOST}` }, local({ timeoutMs: 5000, torProxy })),
    ).toMatchObject({ reason: 'http_429', retryAfterSeconds: 600 });
  });

  test('sets none without the header', async () => {
    const relay = await refusing(429, {});
    expect(await failureOf(relay)).toMatchObject({ reason: 'http_429', retryAfterSeconds: null });
  });

  test('sets it for its NIP-11 document and for a list of relays', async () => {
    const relay = await refusing(503, { 'retry-after': '3600' });
    const options = local({ timeoutMs: 5000 });
    const refused = { ok: false, reason: 'http_503', retryAfterSeconds: 3600 };
    expect(await fetchNip11(relayUrl(relay.url), options)).toEqual(refused);
    expect(await fetchRelayList(relayUrl(relay.url), options)).toEqual(refused);
    expect(relay.fired['nip11-status']).toBe(2);
  });
});
