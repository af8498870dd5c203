import { describe, expect, it } from 'vitest';
import { signedEvents } from '../support/events.ts';
import { type Nip77Trouble, serveNip77 } from '../support/relay-nip77.ts';
import type { ScriptedRelay } from '../support/scripted-relay.ts';
import { visitBench } from '../support/visit-bench.ts';

const FROM = 1_700_000_000;
const history = signedEvents(300, { from: FROM, to: FROM + 3000, seed: 31 });
const late = signedEvents(10, { from: FROM, to: FROM + 3000, seed: 32 });
const KEY = new Uint8Array(32).fill(7);

const { archive, start } = await visitBench();
/** A relay that is known already and has something late, so that the next visit begins with NIP-77. */
async function knownRelay(): Promise<ScriptedRelay> {
  const relay = await start({ events: history });
  await archive.visit(relay.url);
  relay.add(late);
  await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
  return relay;
}

async function mannersOf(relay: ScriptedRelay) {
  const [row] = await archive.db.query<Record<string, unknown>>(
    `select not_before::int, reason, nip77_reason,
            (nip77_not_before - extract(epoch from now()))::int as wait
     from relay_manners join relays using (relay_id) where url = $1`,
    [relay.url],
  );
  return row;
}

const again = { overlapSeconds: 10 ** 10, requestTimeoutMs: 800 };
const HOUR = 3600;
const DAY = 24 * HOUR;

describe('a refusal of NIP-77 ends NIP-77 for the relay, which is read by paging and not paused', () => {
  it.each<[string, Nip77Trouble, string, number]>([
    ['rate-limited by NEG-ERR', { error: 'rate-limited: slow down' }, 'rate_limited', HOUR],
    ['rate-limited by NOTICE', { notice: 'rate-limited: slow down' }, 'rate_limited', HOUR],
    ['restricted', { error: 'restricted: not for you' }, 'restricted', 7 * DAY],
    ['restricted by CLOSED', { closed: 'restricted: not for you' }, 'restricted', 7 * DAY],
    [
      'auth-required, without a key',
      { error: 'auth-required: who are you?' },
      'auth_required',
      DAY,
    ],
    ['blocked, the client', { error: 'blocked: your address is banned' }, 'blocked', 7 * DAY],
    [
      'blocked, whatever the window',
      { error: 'blocked: too many query results' },
      'too_large',
      7 * DAY,
    ],
    ['an error', { error: 'error: internal' }, 'failed', DAY],
    ['garbage', { payload: 'zz' }, 'failed', DAY],
    ['a disconnect', 'disconnect', 'failed', DAY],
    ['silence', 'silence', 'unsupported', 7 * DAY],
  ])('%s', async (_name, what, reason, delay) => {
    const relay = await knownRelay();
    const nip77 = serveNip77(relay, { trouble: { round: 1, what } });
    const report = await archive.visit(relay.url, again);
    expect(report).toMatchObject({ outcome: 'complete', sightings: 10 });
    expect(nip77.opened.length).toBeGreaterThan(0);
    expect(nip77.opened.length).toBeLessThanOrEqual(32);
    const manners = await mannersOf(relay);
    expect(manners).toMatchObject({ not_before: 0, reason: null, nip77_reason: reason });
    expect(manners?.wait).toBeGreaterThan(delay - 600);
    expect(manners?.wait).toBeLessThanOrEqual(delay);
    const opened = nip77.opened.length;
    await archive.visit(relay.url, again);
    expect(nip77.opened).toHaveLength(opened);
  });
});

it('NIP-77 that is refused as auth-required is tried once more after an authentication, and then ends', async () => {
  const relay = await knownRelay();
  relay.change({ auth: { reads: false, challenge: 'on-connect' } });
  const what = { error: 'auth-required: who are you?' };
  const nip77 = serveNip77(relay, { trouble: { round: 1, what } });
  const report = await archive.visit(relay.url, { ...again, secretKey: KEY });
  expect(report).toMatchObject({ outcome: 'complete', sightings: 10 });
  expect(relay.fired.auth).toBe(1);
  expect(nip77.opened).toHaveLength(2);
  expect(await mannersOf(relay)).toMatchObject({ reason: null, nip77_reason: 'auth_required' });
});

it('a REQ that is authenticated lifts the refusal of NIP-77 for want of authentication', async () => {
  const relay = await knownRelay();
  relay.change({ auth: { reads: true, challenge: 'on-connect' } });
  const nip77 = serveNip77(relay);
  await archive.db.query(
    `update relay_manners set nip77_not_before = extract(epoch from now())::bigint + 1000, nip77_reason = 'auth_required'
     from relays where relays.relay_id = relay_manners.relay_id and url = $1`,
    [relay.url],
  );
  await archive.visit(relay.url, { ...again, secretKey: KEY });
  expect(nip77.opened).toHaveLength(0);
  expect(await mannersOf(relay)).toMatchObject({ nip77_reason: null, wait: null });
});

it('a time to try NIP-77 again that lies years ahead was noted by a wrong clock and counts as none', async () => {
  const relay = await knownRelay();
  const nip77 = serveNip77(relay);
  await archive.db.query(
    `update relay_manners set nip77_not_before = 9000000000, nip77_reason = 'failed'
     from relays where relays.relay_id = relay_manners.relay_id and url = $1`,
    [relay.url],
  );
  await archive.visit(relay.url, again);
  expect(nip77.opened.length).toBeGreaterThan(0);
});
