import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { PAGER_STOPS } from '../../src/relay/pager-stop.ts';
import { isStopReason, STOP_REASONS } from '../../src/relay/stop-reason.ts';
import { stopOf, wordOf } from '../../src/visit/visit-stop.ts';
import { projectFile } from '../support/project.ts';

const read = (file: string) => readFileSync(projectFile(file), 'utf8');

/** What a file of the source gives as the reason for which something ended. */
function given(file: string, patterns: readonly RegExp[]): string[] {
  const text = read(file);
  return patterns.flatMap((pattern) =>
    [...text.matchAll(pattern)].map(([, sentence = '']) => sentence),
  );
}

const PAGER = [/#strike\(\s*current,\s*'([^']+)'/g, /\bstop\('([^']+)'/g];
const CONNECTION = [/new (?:Relay|Tor)Error\(\s*'([^']+)'/g, /^ {2}E\w+: '(\w+)',$/gm];

describe('the word for what stopped a visit', () => {
  test.each([
    ['timeout', 'timeout'],
    ['stopped', 'stopped'],
    ['aborted', 'stopped'],
    ['time is up', 'time_is_up'],
    ['proxy_down', 'proxy_down'],
    ['no_proxy', 'no_proxy'],
    ['http_301', 'http_error'],
    ['closed: error: <b>no</b>', 'closed'],
    ['closed: limit too large', 'limit_refused'],
    ['disconnected: Invalid WebSocket frame: RSV1 must be clear', 'disconnected'],
    ['oversized: Max payload size exceeded', 'oversized'],
    ['overflow: more than 20000 events', 'overflow'],
    ['garbled: events came under an id that was never ours', 'garbled'],
    ['rate_limited: rate-limited: slow down: please', 'rate_limited'],
    ['auth_required during NIP-77', 'auth_required'],
    ['ignores until', 'ignores_until'],
    ['ignores since', 'ignores_since'],
    ['ignores since or until', 'ignores_since'],
    ['too many forged or broken events', 'forged'],
    ['says that there is more and shows nothing', 'more_without_events'],
    ['answers nothing where it has shown events', 'hides_events'],
    ['shows nothing, though it has shown events before', 'hides_events'],
    ['17 stretches cannot be proven', 'holes'],
  ])('%s: %s', (detail, reason) => {
    expect(stopOf(detail)).toEqual({ reason, detail });
  });

  test('is itself where a sentence begins with it, whatever the relay said after the colon', () => {
    for (const reason of STOP_REASONS) {
      expect(wordOf(reason)).toBe(reason);
      expect(wordOf(`${reason}: blocked: rate-limited: x`)).toBe(
        reason === 'closed' ? 'closed' : reason,
      );
    }
  });

  test('is never a word of the relay', () => {
    for (const detail of ['', ': }', 'blocked by moderators', 'CLOSED', 'http_x', 'x: timeout']) {
      expect(wordOf(detail)).toBeNull();
      expect(stopOf(detail)).toEqual({ reason: 'protocol', detail });
    }
  });

  test('is known for every reason that the source gives', () => {
    const sentences = [
      ...PAGER_STOPS,
      ...['connection', 'transport', 'relay-error', 'tor'].flatMap((name) =>
        given(`src/relay/${name}.ts`, CONNECTION),
      ),
      ...['relay/paging', 'relay/page-failures', 'visit/read-pages'].flatMap((name) =>
        given(`src/${name}.ts`, PAGER),
      ),
      ...given('src/archive.ts', [/stopOf\(['`]([^'`]+)['`]\)/g]),
    ];
    expect(sentences.length).toBeGreaterThan(45);
    expect(sentences.filter((text) => wordOf(text) === null)).toEqual([]);
  });

  test('stands in init.sql, which has no other', () => {
    const body = /function is_stop_reason.*?\n\);/s.exec(read('init.sql'))?.[0] ?? '';
    const words = [...body.matchAll(/'(\w+)'/g)].map(([, word]) => word);
    expect([...words].sort()).toEqual([...STOP_REASONS].sort());
    expect(new Set(words).size).toBe(words.length);
    expect(isStopReason('unknown')).toBe(false);
  });
});

describe('now, in SQL', () => {
  const OTHER_CLOCKS =
    /extract\s*\(\s*epoch\s+from\s+(now|current|clock|statement|transaction)|date_part|(clock|statement|transaction)_timestamp|current_timestamp|localtimestamp/gi;

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

  test('is unix_now() and nothing else, wherever SQL is written', () => {
    const paths = [
      ...['init.sql', 'README.md', 'docker-compose.yml'],
      ...['src', 'dockerfiles', 'docs'].flatMap(filesIn),
    ].filter((path) => !/migrations\/000\d_/.test(path)); // as they were when they ran; 0010 replaces what they made
    expect(paths.length).toBeGreaterThan(100);
    const found = Object.entries(spellings(paths)).map(([path, times]) => [
      path.replace(/\d{4}(?=_visit-reasons)/, 'NNNN'),
      times,
    ]);
    expect(Object.fromEntries(found)).toEqual({
      'init.sql': 1,
      'src/migrations/NNNN_visit-reasons.sql': 1,
    });
    expect(read('init.sql')).toContain('return floor(extract(epoch from now()))::bigint;');
  });
});
