import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { StorageStatus } from '../../../src/telemetry/storage-status.ts';

type Line = Record<string, unknown>;

let lines: Line[];
let status: StorageStatus;
beforeEach(() => {
  vi.useFakeTimers();
  lines = [];
  status = new StorageStatus(
    pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line)) }),
  );
});
afterEach(() => vi.useRealTimers());

const WHY = '127.0.0.1:6432: no session is free (XX000)';

test('shows the reason of a refused connection at the start, without logging it again', () => {
  expect(status.shown()).toEqual({
    database: 'down',
    databaseReason: 'not connected yet',
    storing: 'works',
  });
  status.refused(WHY);
  expect(status.shown()).toMatchObject({ database: 'down', databaseReason: WHY });
  status.noteDatabase(null);
  expect(status.shown()).toEqual({ database: 'up', storing: 'works' });
  expect(lines).toEqual([]);
});

test('logs an outage once, again each minute, and its end', () => {
  status.noteDatabase(null);
  for (let second = 0; second < 150; second++) {
    status.noteDatabase(WHY);
    vi.advanceTimersByTime(1000);
  }
  expect(status.shown()).toMatchObject({ database: 'down', databaseReason: WHY });
  status.noteDatabase(null);
  expect(lines.map(({ msg, reason, seconds }) => [msg, reason, seconds])).toEqual([
    ['database is down', WHY, 0],
    ['database is down', WHY, 60],
    ['database is down', WHY, 120],
    ['database is up', undefined, 150],
  ]);
});

test('logs each new reason of an outage at once, up to a limit', () => {
  status.noteDatabase(null);
  for (const reason of ['read ECONNRESET', WHY, 'read ECONNRESET', WHY])
    status.noteDatabase(reason);
  expect(lines.map(({ reason }) => reason)).toEqual(['read ECONNRESET', WHY]);
  for (let n = 0; n < 100; n++) status.noteDatabase(`reason ${n}`);
  expect(lines).toHaveLength(10);
});

test('names the relay whose data were not stored, until a write succeeds or a minute has passed', () => {
  status.noteDatabase(null);
  const why = 'wss://relay.example: The database failed: could not extend file';
  status.noteStored(false, why);
  status.logStoring();
  expect(status.shown()).toEqual({ database: 'up', storing: 'fails', storingReason: why });
  status.noteStored(true, '');
  status.logStoring();
  expect(status.shown()).toEqual({ database: 'up', storing: 'works' });
  status.noteStored(false, why);
  vi.advanceTimersByTime(61_000);
  expect(status.shown()).toMatchObject({ storing: 'works' });
  expect(lines.map(({ msg, reason }) => [msg, reason])).toEqual([
    ['storing fails', why],
    ['storing works', undefined],
  ]);
});

test('truncates long reasons', () => {
  status.refused('x'.repeat(5000));
  expect(status.shown().databaseReason?.length).toBe(300);
});
