import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import { closesSeen, EVENTS, ids, read, pageTest as test } from '../../relay/page-test.ts';
import {
  closed,
  disconnects,
  endless,
  GARBAGE_NAMES,
  noEose,
  notice,
  nth,
  unanswered,
} from '../../relay/scripted-relay.ts';

vi.setConfig({ testTimeout: 20_000 }); // for a busy machine; no timeout under test is that long

describe('end of a page', () => {
  test.for([
    ['eose', 'eose'],
    ['finish', 'finish'],
    ['more', 'more'],
    [{ eose: 'finish' }, 'finish'],
    [{ eose: 'more' }, 'more'],
    [{ eose: ['more', 'finish'] }, 'eose'],
    [{ eose: { finish: true } }, 'eose'],
  ] as const)(
    'ends with the EOSE %j as %s, after every event in the order sent',
    async ([end, type], { visit }) => {
      const { relay, connection } = await visit({ quirk: { end } });
      const page = await read(connection);
      expect(page.end).toEqual({ type });
      expect(page.events).toEqual(EVENTS);
      await relay.until((seen) => closesSeen(seen) === 1, 'the CLOSE of a page that is over');
    },
  );

  test('ends as closed with the text of the CLOSED, and sends no CLOSE', async ({ visit }) => {
    const { relay, connection } = await visit({
      quirk: closed('rate-limited: slow\u0000 down', 3),
    });
    const page = await read(connection);
    expect(page.end).toEqual({ type: 'closed', text: 'rate-limited: slow\ufffd down' });
    expect(ids(page.events)).toEqual(ids(EVENTS.slice(0, 3)));
    relay.change({ quirk: {} });
    await read(connection);
    await relay.until((seen) => closesSeen(seen) > 0);
    expect(relay.messages.map(({ message }) => (message as unknown[])[0])).toEqual([
      'REQ',
      'REQ',
      'CLOSE',
    ]);
  });

  test('ends as timeout after the events that arrived', async ({ visit }) => {
    const { connection } = await visit({ quirk: noEose });
    const page = await read(connection, { idleTimeoutMs: 100 });
    expect(page).toEqual({ events: EVENTS, end: { type: 'timeout', text: expect.any(String) } });
    const { relay, connection: other } = await visit({ quirk: unanswered });
    expect((await read(other, { idleTimeoutMs: 100 })).end.type).toBe('timeout');
    expect(relay.fired.silence).toBe(2); // the first request of a connection is sent once more
  });

  test('ends as disconnected after the events that arrived, and so do later pages', async ({
    visit,
  }) => {
    const { connection } = await visit({ quirk: disconnects(3) });
    const page = await read(connection);
    expect(page.end).toEqual({ type: 'disconnected', text: 'code 1006' });
    expect(page.events).toHaveLength(3);
    expect(await read(connection)).toEqual({ events: [], end: page.end });
  });

  test('ends as overflow by events, by bytes, and by bytes of other messages', async ({
    visit,
  }) => {
    const { connection } = await visit();
    const many = await read(connection, { maxEvents: 5 });
    expect(many).toMatchObject({ end: { type: 'overflow' }, events: { length: 6 } });
    const large = await read(connection, { maxBytes: 1000 });
    expect(large.end.type).toBe('overflow');
    expect(large.events.length).toBeLessThan(EVENTS.length);
    const huge = { hugeBytes: 500_000 };
    const { connection: other } = await visit({
      quirk: { garbage: [huge, huge, huge], ...noEose },
    });
    expect(await read(other, { maxBytes: 1_000_000 })).toMatchObject({
      end: { type: 'overflow' },
      events: [],
    });
  });

  test('ends as aborted before it begins and while it runs', async ({ visit }) => {
    const { relay, connection } = await visit({ quirk: noEose });
    const before = await read(connection, { signal: AbortSignal.abort() });
    expect(before).toEqual({ events: [], end: { type: 'aborted' } });
    const abort = new AbortController();
    const page = await read(connection, { signal: abort.signal, onStep: () => abort.abort() });
    expect(page.end.type).toBe('aborted');
    expect(page.events.length).toBeGreaterThan(0);
    await relay.until((seen) => closesSeen(seen) === 2);
  });
});

describe('deadlines of a page', () => {
  test('total timeout bounds events that arrive slowly', async ({ visit }) => {
    const { connection } = await visit({ quirk: { betweenMs: 60 } });
    const page = await read(connection, { idleTimeoutMs: 1000, totalTimeoutMs: 200 });
    expect(page.end.type).toBe('timeout');
    expect(page.events.length).toBeGreaterThan(0);
    expect(page.events.length).toBeLessThan(EVENTS.length);
  });

  test('bytes of an incomplete message count as silence', async ({ visit }) => {
    const { relay, connection } = await visit({ quirk: { drip: { bytes: 100_000, everyMs: 10 } } });
    expect((await read(connection, { idleTimeoutMs: 150 })).end.type).toBe('timeout');
    expect(relay.fired.drip).toBeGreaterThanOrEqual(1);
  });

  test('messages that answer nothing count as silence', async ({ visit }) => {
    const { relay, connection } = await visit({ quirk: noEose, events: [] });
    const talking = setInterval(() => relay.say('NOTICE', 'still here'), 20);
    const page = await read(connection, { idleTimeoutMs: 200 });
    clearInterval(talking);
    expect(page.end.type).toBe('timeout');
  });

  test('time of a slow reader does not count towards the deadlines', async ({ visit }) => {
    const { connection } = await visit();
    const limits = { idleTimeoutMs: 100, totalTimeoutMs: 150 };
    const page = await read(connection, { ...limits, onStep: () => sleep(300) });
    expect(page).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });
});

describe('messages that answer no request', () => {
  test.for(GARBAGE_NAMES.filter((name) => !/utf8|compressed|opcode/.test(name)))(
    'ignores %s before the events',
    async (name, { visit }) => {
      const { relay, connection } = await visit({ quirk: { garbage: [name] } });
      const page = await read(connection);
      expect(page.end).toEqual({ type: 'eose' });
      expect(page.events.slice(-EVENTS.length)).toEqual(EVENTS);
      expect(relay.fired.garbage).toBe(1);
    },
  );

  test.for(GARBAGE_NAMES.filter((name) => /utf8|compressed|opcode/.test(name)))(
    'ends as disconnected after %s, which violates WebSocket',
    async (name, { visit }) => {
      const { connection } = await visit({ quirk: { garbage: [name] } });
      expect((await read(connection)).end).toMatchObject({ type: 'disconnected' });
    },
  );

  test('ignores events and ends of unknown subscriptions, and the page proves nothing', async ({
    visit,
  }) => {
    const { relay, connection } = await visit({ quirk: { wrongSubscription: 'events' } });
    expect(await read(connection)).toMatchObject({ events: [], end: { type: 'garbled' } });
    relay.change({ quirk: { wrongSubscription: 'end' } });
    const page = await read(connection, { idleTimeoutMs: 100 });
    expect(page).toMatchObject({ events: EVENTS, end: { type: 'timeout' } });
    relay.change({ quirk: { wrongSubscription: 'end', end: { closed: 'error: not yours' } } });
    expect((await read(connection, { idleTimeoutMs: 100 })).end.type).toBe('timeout');
    expect(relay.fired.wrongSubscription).toBeGreaterThan(EVENTS.length);
  });

  test('ends as garbled after a flood of notices', async ({ visit }) => {
    const { connection } = await visit({ quirk: { notices: 6000, ...noEose } });
    expect(await read(connection)).toMatchObject({ events: [], end: { type: 'garbled' } });
  });

  test('events after CLOSE do not affect the next page', async ({ visit }) => {
    const { relay, connection } = await visit({
      onRequest: nth(1, endless),
      quirk: { delayMs: 100 },
    });
    expect((await read(connection, { maxEvents: 100 })).end.type).toBe('overflow');
    const late = relay.eventsSent;
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
    expect(relay.eventsSent - late).toBeGreaterThan(100);
  });

  test('ends as closed soon after a NOTICE that refuses, and sends CLOSE', async ({ visit }) => {
    const { relay, connection } = await visit({ quirk: notice('ERROR: too many concurrent REQs') });
    expect(await read(connection)).toEqual({
      events: [],
      end: { type: 'closed', text: 'ERROR: too many concurrent REQs' },
    });
    await relay.until((seen) => closesSeen(seen) === 1);
  });

  test('accepts an answer after a NOTICE that refuses', async ({ visit }) => {
    const text = '["NOTICE","rate-limited: slow down"]';
    const { connection } = await visit({ quirk: { garbage: [{ text }], betweenMs: 20 } });
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });

  test('ignores a NOTICE without a refusal', async ({ visit }) => {
    const { connection } = await visit({ quirk: { notices: 3, betweenMs: 20 } });
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });
});
