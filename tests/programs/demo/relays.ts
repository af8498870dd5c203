/** The relays of the demo: small, local, and each with a character of its own. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { nprofileEncode } from 'nostr-tools/nip19';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import {
  type EventTemplate,
  forgedEvents,
  isValidEvent,
  type Keys,
  makeKeys,
  realOrSignedEvents,
  signedEvent,
  signedEvents,
} from '../../fixtures/events.ts';
import { startForeignRelay } from '../../relay/foreign-relay.ts';
import {
  HTML_PAGE,
  nip11Document,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';

export interface DemoRelay {
  readonly name: string;
  readonly url: string;
  /** What is special about it, for people. */
  readonly character: string;
  readonly readable: boolean;
  /** The ids of all genuine events that it serves now. */
  genuineIds(): Promise<string[]>;
  /** What it serves and must be refused, by the reason that the archive gives. */
  readonly forged: Readonly<Record<string, number>>;
  /** Lets it serve these too; what is no relay serves nothing. */
  add(events: readonly NostrEvent[]): void;
  stop(): Promise<void>;
}

const NOW = Math.floor(Date.now() / 1000);
const DAY = 86_400;
const FORGED_SIGNATURES = 40;
const FORGED_CONTENTS = 20;

/** What the scripted relays share: two weeks of notes, likes and profiles. */
const notes = signedEvents(2400, {
  from: NOW - 14 * DAY,
  to: NOW - 60,
  seed: 21,
  kinds: [1, 1, 1, 7, 7, 6, 0],
  authors: 60,
});

/** Starts one relay of each kind; the foreign one only when it is wanted. */
export async function startRelays(options: { readonly foreign: boolean }): Promise<DemoRelay[]> {
  const real = realOrSignedEvents();
  const starts = [
    scripted('capped', 'sends 100 events at most, whatever is asked for', notes.slice(0, 1500), {
      quirk: { cap: 100 },
      nip11: document('capped', 'https://example.com/small-relay', { max_limit: 100 }),
    }),
    scripted('slow', 'thinks for half a second before each answer', notes.slice(1000, 2000), {
      quirk: { delayMs: 500 },
      nip11: document('slow', 'https://example.com/small-relay'),
    }),
    scripted('backward', 'answers oldest first', notes.slice(600, 1800), {
      quirk: { order: 'oldest-first' },
      nip11: document('backward', 'https://example.com/odd-relay'),
    }),
    scripted('hinting', 'tells when its answer is all (NIP-67)', real.slice(0, 900), {
      quirk: { end: 'nip67' },
      nip11: document('hinting', 'https://example.com/modern-relay'),
    }),
    forger(),
    webPage(),
    down(),
  ];
  if (options.foreign) starts.push(foreign(real));
  const relays = await Promise.all(starts);
  introduce(relays);
  return relays;
}

const [friend, stranger, monitor, wallet] = makeKeys(4, 77) as [Keys, Keys, Keys, Keys];

/**
 * Lets the relays name each other, in all the ways in which events do: whoever knows the first one finds three more, and
 * there the others. The name stands beside the event that holds it.
 */
function introduce(relays: readonly DemoRelay[]): void {
  const urlOf = (name: string) => relays.find((relay) => relay.name === name)?.url ?? '';
  const serve = (name: string, ...templates: Omit<EventTemplate, 'created_at'>[]) => {
    const events = templates.map((one, at) => signedEvent({ ...one, created_at: NOW - DAY + at }));
    relays.find((relay) => relay.name === name)?.add(events);
  };
  const slow = [['r', urlOf('slow').toUpperCase().replace('WS', 'ws'), 'read']];
  const profile = nprofileEncode({ pubkey: stranger.publicKey, relays: [urlOf('hinting')] });
  serve(
    'capped',
    { kind: 10_002, tags: [...slow, ['r', urlOf('backward')]], secretKey: friend.secretKey },
    { content: `ask nostr:${profile}`, secretKey: friend.secretKey },
  );
  const request = JSON.stringify({ kind: 9734, tags: [['relays', urlOf('forger')]] });
  serve(
    'backward',
    { kind: 9735, tags: [['description', request]], secretKey: wallet.secretKey },
    { tags: [['p', friend.publicKey, urlOf('web page')]], secretKey: stranger.secretKey },
  );
  serve('slow', { kind: 30_166, tags: [['d', urlOf('foreign')]], secretKey: monitor.secretKey });
  const follows = JSON.stringify({ [urlOf('down')]: { read: true }, [urlOf('capped')]: {} });
  serve('hinting', { kind: 3, content: follows, secretKey: stranger.secretKey });
}

function document(name: string, software: string, limitation: Record<string, unknown> = {}) {
  return { document: nip11Document({ name, software, limitation }) };
}

async function scripted(
  name: string,
  character: string,
  events: readonly NostrEvent[],
  options: ScriptedRelayOptions,
): Promise<DemoRelay> {
  const relay = await startScriptedRelay({ ...options, events });
  return {
    name,
    character,
    url: relay.url,
    readable: true,
    genuineIds: async () => relay.events.filter(isGenuine).map(({ id }) => id),
    forged: {},
    add: (events) => relay.add(events),
    stop: () => relay.stop(),
  };
}

async function forger(): Promise<DemoRelay> {
  // Its forgeries are newer than the oldest second it holds, which is the only one that is read twice.
  const window = { from: NOW - 7 * DAY, to: NOW - 60 };
  const events = [
    ...notes.slice(1200),
    ...forgedEvents(FORGED_SIGNATURES, { ...window, seed: 31, how: 'signature' }),
    ...forgedEvents(FORGED_CONTENTS, { ...window, seed: 32, how: 'content' }),
  ];
  const relay = await scripted('forger', 'mixes forged events among good ones', events, {
    nip11: document('forger', 'https://example.com/odd-relay'),
  });
  return { ...relay, forged: { bad_signature: FORGED_SIGNATURES, id_mismatch: FORGED_CONTENTS } };
}

async function webPage(): Promise<DemoRelay> {
  const page = { body: HTML_PAGE };
  const relay = await scripted('web page', 'is no relay but a web page', [], {
    upgrade: { status: 200, ...page },
    nip11: page,
  });
  return { ...relay, readable: false };
}

/** A port where nobody listens. */
async function down(): Promise<DemoRelay> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  listener.close();
  return {
    name: 'down',
    character: 'is not running',
    url: `ws://127.0.0.1:${port}`,
    readable: false,
    genuineIds: async () => [],
    forged: {},
    add: () => {},
    stop: async () => {},
  };
}

async function foreign(events: readonly NostrEvent[]): Promise<DemoRelay> {
  const relay = await startForeignRelay({ events });
  return {
    name: 'foreign',
    character: '@nostr-relay/core over SQLite: nobody here wrote it',
    url: relay.url,
    readable: true,
    genuineIds: async () => {
      const genuine = new Set(events.filter(isGenuine).map(({ id }) => id));
      return (await relay.heldIds()).filter((id) => genuine.has(id));
    },
    forged: {},
    add: () => {},
    stop: () => relay.stop(),
  };
}

const judged = new WeakMap<NostrEvent, boolean>();

/** Judged without the archive's own code, and once for an event that several relays hold. */
function isGenuine(event: NostrEvent): boolean {
  const verdict = judged.get(event) ?? isValidEvent(event);
  judged.set(event, verdict);
  return verdict;
}
