import { expect, test } from 'vitest';
import type { JournalRead } from '../../../src/database/journal.ts';
import { type FinderContext, Finding } from '../../../src/finder/find-names.ts';

/** Runs a scan of a journal that answers with these states, and returns those that it did not ask for. */
async function scan(waits: boolean, states: JournalRead['state'][]) {
  const left = [...states];
  let read = 0;
  const finder = {
    scan: async () => {
      const state = left.shift() ?? 'end';
      const events = state === 'rows' ? 5 : 0;
      return { state, batches: events, events, names: 0, candidates: 0, crowded: 0, refused: {} };
    },
  };
  const context = { finder, connect: {}, blocklistPath: null } as unknown as FinderContext;
  const { signal } = new AbortController();
  await new Finding(context).run({ type: 'scan', waits }, signal, ({ events_scanned = 0 }) => {
    read += events_scanned;
  });
  return { read, left };
}

test('reads to the end of the journal', async () => {
  expect(await scan(false, ['rows', 'rows', 'end', 'rows'])).toEqual({ read: 10, left: ['rows'] });
});

test('ends where another one reads', async () => {
  expect(await scan(true, ['rows', 'busy', 'rows'])).toEqual({ read: 5, left: ['rows'] });
});

test('waits for rows that are held back only with that option', async () => {
  const states = ['rows', 'held_back', 'held_back', 'rows', 'end'] as const;
  expect(await scan(true, [...states])).toEqual({ read: 10, left: [] });
  expect(await scan(false, [...states])).toMatchObject({ read: 5 });
});
