import { expect, test, vi } from 'vitest';
import { JournalKeeper } from '../../../src/finder/journal-keeper.ts';
import type { Service } from '../../../src/runtime/service.ts';

/** A keeper with a journal from which this number of portions can be dropped. */
function keeperOf(portions: number, signal = new AbortController().signal) {
  const journal = { lag: async () => 42, trim: vi.fn(), left: portions };
  journal.trim.mockImplementation(async () => {
    journal.left -= 1;
    return { trimmed: 1, isDone: journal.left <= 0 };
  });
  const metrics = { journalLag: vi.fn() };
  const service = { bigbrotr: { journal }, metrics, signal } as unknown as Service;
  return { keeper: new JournalKeeper(service, 3), journal, metrics };
}

test('measures the lag at each look, and drops old rows to the end every ten minutes', async () => {
  vi.useFakeTimers();
  try {
    const { keeper, journal, metrics } = keeperOf(4);
    await keeper.look();
    expect(journal.trim.mock.calls).toEqual([[3], [3], [3], [3]]);
    vi.advanceTimersByTime(599_000);
    await keeper.look();
    expect(journal.trim).toHaveBeenCalledTimes(4);
    vi.advanceTimersByTime(2000);
    await keeper.look();
    expect(journal.trim).toHaveBeenCalledTimes(5);
    expect(metrics.journalLag.mock.calls).toEqual(Array(3).fill(['finder', 42]));
  } finally {
    vi.useRealTimers();
  }
});

test('drops no further portion once the service stops', async () => {
  const stopping = new AbortController();
  const { keeper, journal } = keeperOf(9, stopping.signal);
  journal.trim.mockImplementationOnce(async () => {
    stopping.abort();
    return { trimmed: 1, isDone: false };
  });
  await keeper.look();
  expect(journal.trim).toHaveBeenCalledTimes(1);
});
