import { describe, expect, onTestFinished, test } from 'vitest';
import { MonitorFeed } from '../../../src/finder/find-monitors.ts';
import { probeCandidate } from '../../../src/finder/probe-candidate.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { createVerifier } from '../../../src/nostr/verify.ts';
import { forge, signedEvent } from '../../fixtures/events.ts';
import { local, relayUrl } from '../../relay/relays.ts';
import {
  endless,
  refusesBare,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';

const verifier = await createVerifier();
const AT = 1_750_000_000;
const report = (index: number, kind = 30_166, content = '') =>
  signedEvent({ created_at: AT + index, kind, tags: [['d', `wss://n${index}.net`]], content });
const reports = (count: number) => Array.from({ length: count }, (_, index) => report(index));

async function relay(options: ScriptedRelayOptions) {
  const started = await startScriptedRelay(options);
  onTestFinished(() => started.stop());
  return started;
}

/** Reads each relay once; gives how it ended and the ids that came. */
async function read(urls: readonly string[], live = false, signal = new AbortController().signal) {
  const feed = new MonitorFeed({ verifier, connect: local({ timeoutMs: 1000 }) });
  const ids: string[] = [];
  const ends: string[] = [];
  for (const url of urls)
    ends.push(
      await feed.read(relayUrl(url), live, signal, async (events) => {
        ids.push(...events.map(({ id }) => id));
      }),
    );
  return { ids, ends };
}

const idsOf = (events: readonly NostrEvent[]) => events.map(({ id }) => id).sort();

describe('MonitorFeed', () => {
  test('delivers each report once, however many relays send it', async () => {
    const events = reports(50);
    const [one, two] = await Promise.all([
      relay({ events: events.slice(0, 40) }),
      relay({ events: events.slice(10), quirk: { repeatEvery: 1 } }),
    ]);
    const { ids, ends } = await read([one.url, two.url, one.url]);
    expect([...ids].sort()).toEqual(idsOf(events));
    expect(ends).toEqual(['eose', 'eose', 'eose']);
  });

  test('delivers only valid events of kind 30166', async () => {
    const good = report(1);
    const inject = [
      forge(report(2), 'signature'),
      forge(report(3), 'id'),
      report(4, 1),
      { kind: 30_166 },
      7,
    ];
    const odd = await relay({ events: [good], quirk: { inject } });
    expect(await read([odd.url])).toEqual({ ids: [good.id], ends: ['eose'] });
  });

  test('ends as garbled after a flood of invalid reports', async () => {
    const forged = reports(1200).map((event) => forge(event, 'signature'));
    const flooding = await relay({ quirk: { inject: forged } });
    expect(await read([flooding.url])).toEqual({ ids: [], ends: ['garbled'] });
    const unending = await relay({ events: reports(3), quirk: endless });
    const { ends } = await read([unending.url]);
    expect(['overflow', 'garbled']).toContain(ends[0]);
  });

  test('ends as oversized at a message larger than any report', async () => {
    const large = await relay({ events: [report(1, 30_166, 'x'.repeat(300_000))] });
    expect(await read([large.url])).toEqual({ ids: [], ends: ['oversized'] });
  });

  test('delivers new reports of a live subscription', async () => {
    const followed = await relay({ events: [report(1)] });
    const stop = new AbortController();
    const running = read([followed.url], true, stop.signal);
    await followed.until(({ requests }) => requests.length === 2, 'a live subscription');
    followed.publish(report(2));
    await followed.until(({ eventsSent }) => eventsSent === 2, 'its event');
    followed.dropAll();
    expect(await running).toEqual({ ids: [report(1).id, report(2).id], ends: ['disconnected'] });
  });

  test('returns the reason when the relay does not answer', async () => {
    expect(await read(['ws://127.0.0.1:9'])).toEqual({ ids: [], ends: ['refused'] });
  });
});

describe('probeCandidate', () => {
  const ask = async (options: ScriptedRelayOptions) => {
    const one = await relay(options);
    const signal = new AbortController().signal;
    return probeCandidate(relayUrl(one.url), { ...local({ timeoutMs: 1000 }), signal });
  };

  test.each<[string, ScriptedRelayOptions, string | null]>([
    ['an end', {}, null],
    ['an end with a hint', { quirk: { end: 'finish' } }, null],
    ['an event and no end', { events: [report(1)], quirk: { end: 'silence' } }, null],
    ['a demand for NIP-42', { auth: {} }, null],
    ['a filter that has to name kinds', { quirk: refusesBare('blocked: empty filter') }, null],
    [
      'no filter that it takes',
      { quirk: { refuseFilter: { when: () => true, text: 'error: filter too broad' } } },
      null,
    ],
    ['silence', { quirk: { end: 'silence' } }, 'timeout'],
    ['an end under another id', { quirk: { wrongSubscription: 'end' } }, 'timeout'],
    ['something that is no event', { quirk: { inject: [7], end: 'silence' } }, 'timeout'],
    ['a refusal', { quirk: { end: { closed: 'blocked: no' } } }, 'blocked'],
    ['a refusal of its own', { quirk: { end: { closed: 'error: no idea' } } }, 'closed'],
    ['the end of the connection', { quirk: { end: 'disconnect' } }, 'disconnected'],
    ['a page', { upgrade: { status: 200, body: 'hello' } }, 'http_200'],
  ])('%s', async (_, options, reason) => {
    expect(await ask(options)).toBe(reason);
  });

  test('returns forbidden for a forbidden address', async () => {
    const one = await relay({});
    const options = { ...local({ allowPrivate: false }), signal: new AbortController().signal };
    expect(await probeCandidate(relayUrl(one.url), options)).toBe('forbidden');
    expect(one.connections.total).toBe(0);
  });
});
