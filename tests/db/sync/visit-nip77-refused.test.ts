import { describe, expect } from 'vitest';
import { signedEvents } from '../../fixtures/events.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import type { Nip77Trouble, ScriptedRelay } from '../../relay/scripted-relay.ts';

const FROM = 1_700_000_000;
const history = signedEvents(300, { from: FROM, to: FROM + 3000, seed: 31 });
const late = signedEvents(10, { from: FROM, to: FROM + 3000, seed: 32 });
const KEY = new Uint8Array(32).fill(7);

const test = visitTest
  /** A relay that is known already and has something late, so that the next visit begins with NIP-77. */
  .extend('knownRelay', ({ startRelay, archive }) => async (): Promise<ScriptedRelay> => {
    const relay = await startRelay({ events: history });
    await archive.visit(relay.url);
    relay.add(late);
    await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
    return relay;
  })
  .extend('policyOf', ({ archive }) => async (relay: ScriptedRelay) => {
    const [row] = await archive.db.query<Record<string, unknown>>(
      `select not_before::int, reason, nip77_reason,
            (nip77_not_before - extract(epoch from now()))::int as wait
     from relay_manners join relays using (relay_id) where url = $1`,
      [relay.url],
    );
    return row;
  });
const again = { overlapSeconds: 10 ** 10, requestTimeoutMs: 800 };
const HOUR = 3600;
const DAY = 24 * HOUR;

describe('a refusal of NIP-77 ends NIP-77 for the relay, which is read by paging and not paused', () => {
  test.for<[string, Nip77Trouble, string, number]>([
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
  ])('%s', async ([_name, what, reason, delay], { knownRelay, archive, policyOf }) => {
    const relay = await knownRelay();
    relay.change({ nip77: { trouble: { round: 1, what } } });
    const report = await archive.visit(relay.url, again);
    expect(report).toMatchObject({ outcome: 'complete', sightings: 10 });
    expect(relay.nip77.opened.length).toBeGreaterThan(0);
    expect(relay.nip77.opened.length).toBeLessThanOrEqual(32);
    const policy = await policyOf(relay);
    expect(policy).toMatchObject({ not_before: 0, reason: null, nip77_reason: reason });
    expect(policy?.wait).toBeGreaterThan(delay - 600);
    expect(policy?.wait).toBeLessThanOrEqual(delay);
    const opened = relay.nip77.opened.length;
    await archive.visit(relay.url, again);
    expect(relay.nip77.opened).toHaveLength(opened);
  });
});

test('NIP-77 that is refused with auth-required: is tried once more after an authentication, and then ends', async ({
  knownRelay,
  archive,
  policyOf,
}) => {
  const relay = await knownRelay();
  relay.change({ auth: { reads: false, challenge: 'on-connect' } });
  const what = { error: 'auth-required: who are you?' };
  relay.change({ nip77: { trouble: { round: 1, what } } });
  const report = await archive.visit(relay.url, { ...again, secretKey: KEY });
  expect(report).toMatchObject({ outcome: 'complete', sightings: 10 });
  expect(relay.fired.auth).toBe(1);
  expect(relay.nip77.opened).toHaveLength(2);
  expect(await policyOf(relay)).toMatchObject({ reason: null, nip77_reason: 'auth_required' });
});

test('an authenticated REQ clears a refusal of NIP-77 for lack of authentication', async ({
  knownRelay,
  archive,
  policyOf,
}) => {
  const relay = await knownRelay();
  relay.change({ auth: { reads: true, challenge: 'on-connect' } });
  relay.change({ nip77: {} });
  await archive.db.query(
    `update relay_manners set nip77_not_before = extract(epoch from now())::bigint + 1000, nip77_reason = 'auth_required'
     from relays where relays.relay_id = relay_manners.relay_id and url = $1`,
    [relay.url],
  );
  await archive.visit(relay.url, { ...again, secretKey: KEY });
  expect(relay.nip77.opened).toHaveLength(0);
  expect(await policyOf(relay)).toMatchObject({ nip77_reason: null, wait: null });
});

test('a retry time of NIP-77 that lies years ahead, recorded by a wrong clock, is ignored', async ({
  knownRelay,
  archive,
}) => {
  const relay = await knownRelay();
  relay.change({ nip77: {} });
  await archive.db.query(
    `update relay_manners set nip77_not_before = 9000000000, nip77_reason = 'failed'
     from relays where relays.relay_id = relay_manners.relay_id and url = $1`,
    [relay.url],
  );
  await archive.visit(relay.url, again);
  expect(relay.nip77.opened.length).toBeGreaterThan(0);
});
