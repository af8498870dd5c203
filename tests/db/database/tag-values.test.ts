import fc from 'fast-check';
import { describe, expect } from 'vitest';
import { tagValues } from '../../../src/database/bigbrotr.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { storeTest as test } from '../../fixtures/store-test.ts';

describe('tagValues()', () => {
  test('returns values of at most 255 bytes of tags with one-letter names', () => {
    const tags = [
      ['t', 'x'],
      ['t', 'x', 'again'],
      ['T', 'x'],
      ['tt', 'x'],
      ['1', 'x'],
      ['ä', 'x'],
      ['t\n', 'x'],
      ['t'],
      [],
      ['e', ''],
      ['p', 'ß'.repeat(127)],
      ['p', 'ß'.repeat(128)],
    ];
    expect(tagValues({ tags })).toEqual(['t:x', 'T:x', 'e:', `p:${'ß'.repeat(127)}`]);
  });

  test('by property: agrees with event_tagvalues() of init.sql, in memory and as stored', async ({
    database,
    store,
  }) => {
    const letter = fc.constantFrom('e', 'p', 'T', 'z', 'é', '1', 'ab', '', 'a\n', ' ');
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 20 }),
      fc.string({ unit: fc.constantFrom('"', '\\', '{', '}', ',', "'", ' ', '\n', 'NULL') }),
      fc.integer({ min: 250, max: 258 }).map((length) => 'x'.repeat(length)),
      fc.integer({ min: 83, max: 87 }).map((length) => '語'.repeat(length)),
    );
    const tag = fc
      .tuple(letter, text, fc.array(text, { maxLength: 2 }))
      .map(([a, b, c]) => [a, b, ...c]);
    const lists = fc.array(
      fc.array(
        fc.oneof(
          tag,
          fc.constant([] as string[]),
          letter.map((a) => [a]),
        ),
      ),
      {
        minLength: 20,
        maxLength: 20,
      },
    );
    await fc.assert(
      fc.asyncProperty(lists, async (all) => {
        await database.query('truncate events, sightings');
        const events = all.map((tags, index) => signedEvent({ created_at: index, tags }));
        const usable = events.filter(({ tags }) => !/\0/.test(JSON.stringify(tags)));
        await store({ events: usable });
        const rows = await database.query<{ at: number; stored: string[]; computed: string[] }>(
          'select created_at::int as at, tagvalues as stored, event_tagvalues(tags) as computed from events',
        );
        expect(rows).toHaveLength(usable.length);
        for (const { at, stored, computed } of rows) {
          expect([...stored].sort()).toEqual([...computed].sort());
          expect(stored).toEqual(tagValues({ tags: all[at] ?? [] }));
        }
      }),
      { numRuns: 25 },
    );
  });
});
