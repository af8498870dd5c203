import { describe, expect, test } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { visitBench } from '../../fixtures/visit-bench.ts';
import {
  atIds,
  closed,
  type Nip77Options,
  type ScriptedRelay,
} from '../../relay/scripted-relay.ts';

const SPAN = { from: 1_700_000_000, to: 1_700_300_000 };
const again = { overlapSeconds: 10 ** 10 };

const { archive, start } = await visitBench();
let seed = 900;
const events = (count: number, kind: number) =>
  signedEvents(count, { ...SPAN, seed: seed++, kinds: [kind] });

async function withholding(withheld: NostrEvent[], options: Nip77Options = {}) {
  const relay = await start({ events: events(200, 1), quirk: { cap: 500 } });
  await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
  relay.change({ nip77: { withheld, ...options } });
  return { relay, nip77: relay.nip77 };
}

const kindsOf = ({ url }: ScriptedRelay) =>
  archive.db.query(
    `select kind, withheld::integer as withheld, next_try_at > extract(epoch from now()) as waits
     from withheld_kinds where relay_url = $1 order by kind`,
    [url],
  );

const makeDue = () => archive.db.query('update withheld set next_try_at = 0');

/** Ids that were asked for since the record was last emptied. */
const asked = ({ requests }: ScriptedRelay) =>
  new Set(requests.flatMap(({ filters }) => filters.flatMap(({ ids }) => ids ?? [])));

describe('a relay that lists two kinds by NIP-77 and serves none of their events', () => {
  test('is asked for the kinds of events that it withheld twice, and then only for a sample of each kind', async () => {
    const [direct, wraps, others] = [events(30, 4), events(50, 1059), events(3, 7)];
    const withheld = [...direct, ...wraps, ...others];
    const { relay, nip77 } = await withholding(withheld);
    await archive.visit(relay.url);
    expect(await kindsOf(relay)).toEqual([{ kind: null, withheld: 83, waits: false }]);
    expect(nip77.opened.some(({ kinds }) => kinds)).toBe(false);

    await archive.visit(relay.url, again);
    const known = [
      { kind: 4, withheld: 30, waits: true },
      { kind: 1059, withheld: 50, waits: true },
      { kind: null, withheld: 3, waits: true },
    ];
    expect(await kindsOf(relay)).toEqual(known);

    await makeDue();
    relay.forget();
    const opened = nip77.opened.length;
    const report = await archive.visit(relay.url, again);
    expect(report).toMatchObject({ detail: '83 events are listed and withheld' });
    expect(asked(relay).size).toBe(20 + 20 + 3);
    expect(await kindsOf(relay), 'all of a kind count as asked for').toEqual(known);
    expect(nip77.opened.slice(opened).some(({ kinds }) => kinds)).toBe(false);

    // From now on it serves one of them.
    relay.add(direct);
    for (const visits of [1, 2]) {
      await makeDue();
      await archive.visit(relay.url, again);
      expect(await archive.ids(relay.url)).toHaveLength(200 + (visits === 1 ? 20 : 30));
    }
    expect(await kindsOf(relay)).toEqual(known.slice(1));
  });

  test('is asked for a new event of such a kind', async () => {
    const withheld = events(30, 4);
    const { relay } = await withholding(withheld);
    await archive.visit(relay.url);
    const late = events(1, 4);
    const listed = {
      *[Symbol.iterator]() {
        yield* withheld;
        if (relay.nip77.opened.at(-1)?.kinds) yield* late;
      },
    };
    relay.change({ nip77: { withheld: listed } });
    relay.change({ onRequest: atIds(late, closed('error: internal')) });
    await archive.visit(relay.url, again);
    expect(relay.nip77.opened.at(-1)?.kinds).toBeDefined();
    const covered = await archive.db.query(
      'select from coverage, unnest($1::bigint[]) as second where second <@ covered',
      [late.map(({ created_at }) => created_at)],
    );
    expect(covered).toEqual([]);
  });

  test('is not believed if it lists the same events for every kind', async () => {
    const withheld = events(40, 7);
    const { relay } = await withholding(withheld);
    const items = [...relay.events, ...withheld].map(({ id, created_at }) => ({
      id,
      createdAt: created_at,
    }));
    await archive.visit(relay.url);
    relay.change({ nip77: { items } }); // by no filter
    const { opened } = relay.nip77;
    await archive.visit(relay.url, again);
    expect(opened.filter(({ kinds }) => kinds?.length === 1).length).toBeGreaterThan(1);
    expect(await kindsOf(relay)).toEqual([{ kind: null, withheld: 40, waits: true }]);
  });
});
