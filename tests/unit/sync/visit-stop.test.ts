import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isStopReason, STOP_REASONS } from '../../../src/nostr/stop-reason.ts';
import { PageFailures } from '../../../src/sync/paging/failures.ts';
import { PageLimit } from '../../../src/sync/paging/limit.ts';
import {
  saidIn,
  stopOfConnection,
  stopOfFlaws,
  stopOfReading,
} from '../../../src/sync/visit-stop.ts';
import { projectFile } from '../../processes/project.ts';

const read = (file: string) => readFileSync(projectFile(file), 'utf8');

describe('stopOfConnection', () => {
  test.each([
    ['timeout', 'timeout'],
    ['dns', 'dns'],
    ['no_proxy', 'no_proxy'],
    ['proxy_down', 'proxy_down'],
    ['network_down', 'network_down'],
    ['http_301', 'http_error'],
    ['http_503', 'http_error'],
    ['protocol', 'protocol'],
    ['too_large', 'protocol'],
  ] as const)('%s: %s', (failure, reason) => {
    expect(stopOfConnection(failure)).toEqual({ reason, detail: failure });
  });

  test('returns stopped for an attempt that we ended', () => {
    expect(stopOfConnection('aborted')).toEqual({ reason: 'stopped', detail: 'stopped' });
  });
});

describe('stopOfReading', () => {
  test('is the reason of the pager, and a sentence followed by the text of the relay', () => {
    const text = 'error: timeout: too busy';
    expect(stopOfReading({ reason: 'closed', text })).toEqual({
      reason: 'closed',
      detail: 'closed: error: timeout: too busy',
    });
    expect(stopOfReading({ reason: 'timeout', text: '' })).toEqual({
      reason: 'timeout',
      detail: 'timeout',
    });
  });

  test('is limit_refused where requests are CLOSED for their limit, control requests too', () => {
    const failures = new PageFailures(new PageLimit(500));
    const steps = [1, 2, 3].map(() =>
      failures.judgeControl({ type: 'closed', text: 'limit too large' }),
    );
    expect(steps.at(-1)?.stop).toEqual({ reason: 'limit_refused', text: 'limit too large' });
  });
});

describe('stopOfFlaws', () => {
  test('names holes before withheld events, and neither where there is none', () => {
    expect(stopOfFlaws(0, 0)).toBeNull();
    expect(stopOfFlaws(17, 0)).toEqual({
      reason: 'holes',
      detail: '17 stretches cannot be proven',
    });
    expect(stopOfFlaws(0, 3)).toMatchObject({ reason: 'withheld' });
    expect(stopOfFlaws(1, 3)).toEqual({
      reason: 'holes',
      detail: '1 stretches cannot be proven, 3 events are listed and withheld',
    });
  });
});

describe('the text of a relay in a stop', () => {
  test('follows the reason', () => {
    const stop = stopOfReading({ reason: 'filter_refused', text: 'blocked: kind not allowed: 4' });
    expect(saidIn(stop)).toBe('blocked: kind not allowed: 4');
    expect(saidIn({ reason: 'time_is_up', detail: 'time is up' })).toBe('time is up');
  });
});

describe('the closed set of stop reasons', () => {
  test('is the same as in init.sql', () => {
    const body = /function is_stop_reason.*?\n\);/s.exec(read('init.sql'))?.[0] ?? '';
    const words = [...body.matchAll(/'(\w+)'/g)].map(([, word]) => word);
    expect([...words].sort()).toEqual([...STOP_REASONS].sort());
    expect(new Set(words).size).toBe(words.length);
    expect(isStopReason('unknown')).toBe(false);
  });
});

describe('now, in SQL', () => {
  const OTHER_CLOCKS =
    /extract\s*\(\s*epoch\s+from\s+(now|current|clock|statement|transaction)|date_part|\b(clock|statement|transaction)_timestamp\b|current_timestamp|localtimestamp/gi;

  /** Older than unix_now(): 0002 replaces every function that reads the clock another way. */
  const BASELINE = 'src/database/migrations/0001_baseline.sql';

  /** Every file of these folders, and of the list, as `path: times another spelling stands there`. */
  function spellings(paths: readonly string[]): Record<string, number> {
    const found: Record<string, number> = {};
    for (const path of paths) {
      const times = [...read(path).matchAll(OTHER_CLOCKS)].length;
      if (times > 0) found[path] = times;
    }
    return found;
  }

  const filesIn = (folder: string) =>
    readdirSync(projectFile(folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(projectFile('').length))
      .map((path) => path.replace(/^\//, ''));

  test('is always unix_now()', () => {
    const paths = [
      ...['init.sql', 'README.md', 'docker-compose.yml'],
      ...['src', 'dockerfiles', 'docs'].flatMap(filesIn),
    ].filter((path) => path !== BASELINE);
    expect(paths.length).toBeGreaterThan(100);
    expect(spellings(paths)).toEqual({
      'init.sql': 1,
      'src/database/migrations/0002_visit-reasons.sql': 1,
    });
    expect(read('init.sql')).toContain('return floor(extract(epoch from now()))::bigint;');
  });
});
