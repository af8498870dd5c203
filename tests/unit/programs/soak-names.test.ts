import { describe, expect, test } from 'vitest';
import { RelayNames } from '../../../src/finder/relay-names.ts';
import { parseBlocklist } from '../../../src/network/blocklist.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { seededRandom } from '../../fixtures/random.ts';
import { judgeNames, type NamesModel } from '../../programs/soak/judge-names.ts';
import { Names, type Target } from '../../programs/soak/names.ts';
import { Tally } from '../../programs/soak/tally.ts';

const NOW = 1_760_000_000;
const KNOWN = 'ws://127.0.0.1:20001';
const HIDDEN = 'ws://127.0.0.1:20002';
const NOBODY = 'ws://127.0.0.1:20003';
const TRAP = 'ws://127.0.0.1:20009';
const TARGETS: readonly Target[] = [
  { place: 'known', url: KNOWN },
  { place: 'hidden', url: HIDDEN },
  { place: 'no relay', url: NOBODY },
  { place: 'unreachable', url: 'ws://soak.i2p' },
  { place: 'forbidden', url: TRAP },
  { place: 'forbidden', url: 'ws://not a relay' },
];

function namesOf(events: number) {
  const names = new Names(seededRandom(5), TARGETS, 5);
  return { names, events: Array.from({ length: events }, (_, index) => names.event(NOW - index)) };
}

/** What a finder without a mistake reads in these events. */
function read(events: readonly NostrEvent[]) {
  const gathered = new RelayNames({ blocklist: parseBlocklist(TRAP, ''), allowPrivate: true });
  for (const event of events) gathered.addEvent(event);
  return gathered.named();
}

describe('what a soak thinks its events name', () => {
  test('is what the finder reads in them, whatever the kind of event and the spelling', () => {
    const { names, events } = namesOf(400);
    const found = read(events);
    expect(found.map(({ url }) => url).sort()).toEqual(
      TARGETS.filter(({ place }) => place !== 'forbidden')
        .map(({ url }) => url)
        .sort(),
    );
    for (const { url, times, firstAt, authors } of found) {
      const namings = names.namings(url);
      expect(times).toBe(namings.length);
      expect(firstAt).toBe(Math.min(...namings.map(({ at }) => at)));
      expect([...authors].sort()).toEqual([...new Set(namings.map(({ author }) => author))].sort());
    }
    expect(new Set(events.map(({ kind }) => kind)).size).toBeGreaterThan(9);
  });
});

type Row = Record<string, unknown>;
interface Archive {
  named: Row[];
  relays: string[];
  events: string[];
  queued: number;
  trapped: number;
  told: Map<string, number>;
}

/** An archive in which all is as it should be, but for what is changed; and what the judge says of it. */
async function judged(change: (archive: Archive) => void): Promise<string[]> {
  const { names, events } = namesOf(60);
  const place = new Map(TARGETS.map((target) => [target.url, target.place]));
  const archive: Archive = {
    named: read(events).map(({ url, times, authors, ...rest }) => {
      const wasTried = place.get(url) === 'hidden' || place.get(url) === 'no relay';
      const reason = place.get(url) === 'no relay' ? 'refused' : null;
      const hasAnswered = place.get(url) === 'hidden';
      return { url, times, authors, ...rest, wasTried, reason, hasAnswered };
    }),
    relays: [KNOWN, HIDDEN],
    events: events.map(({ id }) => id),
    ...{ queued: 0, trapped: 0, told: new Map([[HIDDEN, 1]]) },
  };
  change(archive);
  const answers: readonly (readonly [RegExp, Row[]])[] = [
    [/from named_relays/, archive.named],
    [/from relays/, archive.relays.map((url) => ({ url }))],
    [/from events/, archive.events.map((id) => ({ id }))],
    [/from journal/, [{ n: archive.queued }]],
  ];
  const ask = async <R extends object>(sql: string) =>
    (answers.find(([about]) => about.test(sql))?.[1] ?? []) as R[];
  const said: string[] = [];
  const model: NamesModel = {
    ...{ names, targets: TARGETS, seeds: [KNOWN] },
    places: {
      ...{ targets: [], blocklist: [], listUrl: '', listed: [] },
      forbiddenConnections: () => archive.trapped,
      listRequests: () => 1,
      stop: async () => {},
    },
  };
  await judgeNames(ask, model, archive.told, new Tally((sentence) => said.push(sentence)));
  return said;
}

const set = (row: object, values: Row) => Object.assign(row, values);
const row = ({ named }: Archive, url: string): Row => named.find((one) => one.url === url) ?? {};

describe('the judge of names', () => {
  test('has nothing to say of an archive in which all is as it should be', async () => {
    expect(await judged(() => {})).toEqual([]);
  });

  test.each<[string, (archive: Archive) => unknown, RegExp]>([
    ['a lost name', (it) => it.named.splice(0, 1), /has lost/],
    ['one that counts twice', (it) => set(row(it, NOBODY), { times: 999 }), /named 999 times/],
    ['an event not counted', (it) => set(row(it, HIDDEN), { times: 1 }), /named 1 times/],
    ['a forbidden name', (it) => it.named.push({ ...row(it, KNOWN), url: TRAP }), /remembers ws:/],
    ['a wrong author', (it) => (row(it, KNOWN).authors as string[]).push('ab'), /ab has named it/],
    ['an author left out', (it) => (row(it, KNOWN).authors as string[]).pop(), /nothing of/],
    ['another first event', (it) => set(row(it, KNOWN), { firstEvent: 'cd' }), /cd named it first/],
    ['another first time', (it) => set(row(it, KNOWN), { firstAt: NOW }), /at 1760000000, not of/],
    ['a relay not found', (it) => it.relays.pop(), /that it is no relay/],
    ['no relay become one', (it) => it.relays.push(NOBODY), /become a relay of the archive/],
    ['one not asked', (it) => set(row(it, NOBODY), { wasTried: false }), /it was not asked/],
    ['a known one asked', (it) => set(row(it, KNOWN), { wasTried: true }), /though it was known/],
    [
      'one out of reach asked',
      (it) => set(row(it, 'ws://soak.i2p'), { wasTried: true }),
      /nothing leads/,
    ],
    ['a relay found twice', (it) => it.told.set(HIDDEN, 2), /found the relay .* 2 times/],
    ['events not read', (it) => set(it, { queued: 3 }), /left 3 batches/],
    ['a forbidden connection', (it) => set(it, { trapped: 1 }), /1 connections were made/],
  ])('notices %s', async (_, change, sentence) => {
    expect(await judged(change)).toContainEqual(expect.stringMatching(sentence));
  });
});
