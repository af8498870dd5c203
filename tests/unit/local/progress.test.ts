import type { WriteStream } from 'node:tty';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ProgressFigures } from '../../../src/database/progress-figures.ts';
import { Progress } from '../../../src/local/progress.ts';
import { progressLines } from '../../../src/local/progress-lines.ts';
import type { HealthStatus } from '../../../src/telemetry/health.ts';

const ARCHIVE: ProgressFigures = {
  ...{ events: 20_574, isEstimate: false, relays: 1290, readable: 812 },
  nextCheckAt: null,
  failures: [],
};
const STATUS: HealthStatus = {
  ...{ state: 'waiting', ready: true, database: 'up', storing: 'works', tor: 'off', network: 'up' },
  ...{ uptimeSeconds: 1, lastRound: null, counts: {} },
} as const;
const view = { archive: ARCHIVE, counts: {}, eventsPerSecond: 0, statuses: [STATUS] };

describe('progressLines', () => {
  test('shows the archive apart from what came since the start', () => {
    const counts = { events: 1200, relays_checked: 45, relays_visited: 7 };
    expect(progressLines({ ...view, counts, eventsPerSecond: 3 }).slice(0, 2)).toEqual([
      'archive: 20,574 events, 1,290 relays, 812 readable',
      'since this start: 1,200 new events (3/s), 45 relays checked, 7 visited',
    ]);
    expect(progressLines({ ...view, archive: { ...ARCHIVE, isEstimate: true } })[0]).toMatch(
      /^archive: about 20,574 events/,
    );
    expect(progressLines({ ...view, archive: null })[0]).toBe('archive: being counted');
  });

  test('shows what is done, else what is waited for and until when', () => {
    const activity = (parts: Partial<HealthStatus>, archive = ARCHIVE) =>
      progressLines({ ...view, archive, statuses: [{ ...STATUS, ...parts }] })[2];
    expect(activity({ details: { checking: 'wss://a.example', synchronising: '' } })).toBe(
      'checking a.example',
    );
    const at = new Date(2026, 5, 1, 14, 32).getTime() / 1000;
    expect(activity({}, { ...ARCHIVE, nextCheckAt: at })).toBe(
      'waiting: the next check is due at 14:32',
    );
    expect(activity({})).toBe('waiting: the first checks begin in a moment');
    expect(activity({}, { ...ARCHIVE, relays: 0 })).toBe('waiting: no check is due');
    expect(activity({ ready: false })).toBe('starting');
    expect(activity({ database: 'down', databaseReason: '127.0.0.1:5432: refused' })).toBe(
      'waiting for the database: 127.0.0.1:5432: refused',
    );
    expect(activity({ network: 'down', networkReason: 'no name resolves' })).toBe(
      'waiting for the network: no name resolves',
    );
    expect(activity({ storing: 'fails', storingReason: 'no space' })).toBe(
      'storing fails: no space',
    );
  });

  test('counts failures by reason, the rare ones together', () => {
    const failures = [120, 34, 12, 5, 4, 3, 2, 1].map((relays, index) => ({
      reason: `reason_${index}`,
      relays,
    }));
    const [, , , line] = progressLines({ ...view, archive: { ...ARCHIVE, failures } });
    expect(line).toMatch(/^not readable: 120 reason_0, 34 reason_1, .*3 reason_5, 3 other$/);
    expect(progressLines(view)).toHaveLength(3);
  });
});

describe('progressLines in a narrow terminal', () => {
  const narrow = (width: number, parts: Partial<HealthStatus> = {}, archive = ARCHIVE) =>
    progressLines(
      {
        ...{ archive, eventsPerSecond: 1234 },
        counts: { events: 1_200_345, relays_checked: 1290, relays_visited: 12_345 },
        statuses: [{ ...STATUS, ...parts }],
      },
      width,
    );

  test('leaves out figures whole, the least important first', () => {
    expect(narrow(79).slice(0, 2)).toEqual([
      'archive: 20,574 events, 1,290 relays, 812 readable',
      'since this start: 1,200,345 new events (1,234/s), 1,290 relays checked',
    ]);
    expect(narrow(50).slice(0, 2)).toEqual([
      'archive: 20,574 events, 1,290 relays, 812 readable',
      'since this start: 1,200,345 new events (1,234/s)',
    ]);
  });

  test('names fewer relays, never half of one', () => {
    const details = {
      synchronising: 'wss://one.example wss://two.example wss://three.example',
      checking: 'wss://four.example wss://five.example',
    };
    expect(narrow(100, { details })[2]).toBe(
      'synchronising one.example two.example three.example | checking four.example five.example',
    );
    expect(narrow(79, { details })[2]).toBe(
      'synchronising one.example two.example | checking four.example five.example',
    );
    expect(narrow(60, { details })[2]).toBe('synchronising one.example | checking four.example');
    expect(narrow(30, { details })[2]).toBe('synchronising | checking');
    expect(narrow(15, { details })[2]).toBe('synchronising');
  });

  test('counts reasons for which there is no room together', () => {
    const failures = [120, 34, 12, 5].map((relays, index) => ({
      reason: `reason_${index}`,
      relays,
    }));
    expect(narrow(60, {}, { ...ARCHIVE, failures })[3]).toBe(
      'not readable: 120 reason_0, 34 reason_1, 17 other',
    );
  });

  test('shows a sentence whole, in lines that end between words', () => {
    const parts = {
      network: 'down',
      networkReason: 'DNS does not work, while IPv4 and IPv6 work: relays are not judged by it',
      waitsForNetwork: 261,
    } as const;
    expect(narrow(60, parts).slice(2)).toEqual([
      'waiting for the network (261 relays wait): DNS does not',
      'work, while IPv4 and IPv6 work: relays are not judged by it',
    ]);
    const degraded = {
      ...parts,
      network: 'degraded',
      details: { checking: 'wss://a.example' },
    } as const;
    expect(narrow(60, degraded).slice(2)).toEqual([
      'checking a.example',
      'DNS does not work, while IPv4 and IPv6 work: relays are not',
      'judged by it',
    ]);
  });
});

describe('Progress at a terminal', () => {
  const written: string[] = [];
  const err: string[] = [];
  const write = (text: string) => written.push(text) > 0;
  const terminal = { isTTY: true, columns: 60, write } as unknown as WriteStream;
  let progress: Progress;

  beforeEach(() => {
    vi.useFakeTimers();
    written.length = 0;
    err.length = 0;
    progress = new Progress(terminal, { write: (text: string) => err.push(text) > 0 });
    progress.begin();
    progress.update('monitor', STATUS);
    vi.advanceTimersByTime(600);
  });
  afterEach(() => {
    progress.end();
    vi.useRealTimers();
  });

  test('puts errors on lines of their own above itself, and draws itself again', () => {
    const before = written.length;
    progress.errorLine('a stack trace');
    expect(err).toEqual(['a stack trace\n']);
    // Three lines are cleared before, and three drawn after.
    expect(written[before]).toBe(`\r\x1b[2K${'\x1b[1A\r\x1b[2K'.repeat(2)}`);
    expect(written.at(-1)?.split('\n')).toEqual([
      '\r\x1b[2Karchive: being counted',
      expect.stringMatching(/^since this start: /),
      'waiting: no check is due',
    ]);
    progress.line(JSON.stringify({ level: 'INFO', msg: 'not shown' }));
    progress.line(JSON.stringify({ level: 'ERROR', msg: 'shown' }));
    expect(written.join('')).not.toContain('not shown');
    expect(written.join('')).toContain('shown');
  });

  test('shows once what several services report for one reason, and what one reports again', () => {
    const report = (service: string, reason: string) =>
      progress.line(JSON.stringify({ level: 'ERROR', service, msg: 'network is down', reason }));
    const shown = () => written.join('').split('network is down').length - 1;
    for (const service of ['monitor', 'finder', 'synchronizer'])
      report(service, 'DNS does not work');
    expect(shown()).toBe(1);
    report('finder', 'IPv4 does not work');
    report('finder', 'IPv4 does not work');
    expect(shown()).toBe(3);
    vi.advanceTimersByTime(10_000);
    report('finder', 'DNS does not work');
    expect(shown()).toBe(4);
  });

  test('clears the rows that its lines take when the terminal became narrower', () => {
    const now = terminal as unknown as { columns: number };
    now.columns = 30;
    const lines = (written.at(-1) ?? '').replace('\r\x1b[2K', '').split('\n');
    const rows = lines.reduce((sum, { length }) => sum + Math.ceil(length / 30), 0);
    expect(rows).toBeGreaterThan(lines.length);
    const before = written.length;
    progress.errorLine('an error');
    now.columns = 60;
    expect(written[before]).toBe(`\r\x1b[2K${'\x1b[1A\r\x1b[2K'.repeat(rows - 1)}`);
  });

  test('fits its lines into the width, and removes them at its end', () => {
    for (const line of (written.at(-1) ?? '').split('\n'))
      expect(line.replace('\r\x1b[2K', '').length).toBeLessThan(60);
    progress.end();
    expect(written.at(-1)).toBe(`\r\x1b[2K${'\x1b[1A\r\x1b[2K'.repeat(2)}`);
    expect(progress.hasEnded).toBe(true);
  });
});
