import { describe, expect, test } from 'vitest';
import { readCaching, validatorHeaders } from '../../../src/network/http-caching.ts';

const NOTHING = { freshSeconds: 0, etag: null, lastModified: null };
const DATE = 'Sun, 06 Nov 1994 08:49:37 GMT';

describe('readCaching', () => {
  test.each<[string, Record<string, string | string[]>, number]>([
    ['nothing', {}, 0],
    ['max-age', { 'cache-control': 'public, Max-Age=600' }, 600],
    ['max-age between quotes', { 'cache-control': 'max-age="600"' }, 600],
    ['max-age, less the time in other caches', { 'cache-control': 'max-age=600', age: '100' }, 500],
    ['an answer older than its max-age', { 'cache-control': 'max-age=600', age: '700' }, 0],
    ['no-cache', { 'cache-control': 'no-cache, max-age=600' }, 0],
    ['no-store', { 'cache-control': 'max-age=600, no-store' }, 0],
    ['Expires', { date: DATE, expires: 'Sun, 06 Nov 1994 09:49:37 GMT' }, 3600],
    ['Expires without Date', { expires: DATE }, 0],
    ['Expires: 0', { date: DATE, expires: '0' }, 0],
    [
      'max-age rather than Expires',
      { 'cache-control': 'max-age=5', date: DATE, expires: 'Sun, 06 Nov 1994 09:49:37 GMT' },
      5,
    ],
    ['a year', { 'cache-control': 'max-age=31536000, immutable' }, 604_800],
    ['a time that no number holds', { 'cache-control': 'max-age=99999999999999999999' }, 0],
    ['a negative time', { 'cache-control': 'max-age=-5' }, 0],
    ['nonsense', { 'cache-control': '=,=;max-age', age: 'old', expires: 'soon' }, 0],
    ['two headers', { 'cache-control': ['public', 'max-age=60'] }, 60],
    ['what is for shared caches', { 'cache-control': 's-maxage=60' }, 0],
  ])('reads %s', (_, headers, freshSeconds) => {
    expect(readCaching(headers)).toEqual({ ...NOTHING, freshSeconds });
  });

  test('keeps validators unchanged, and none with no-store', () => {
    const headers = { etag: 'W/"a, b"', 'last-modified': DATE };
    expect(readCaching(headers)).toEqual({ freshSeconds: 0, etag: 'W/"a, b"', lastModified: DATE });
    expect(readCaching({ ...headers, 'cache-control': 'no-store' })).toEqual(NOTHING);
  });

  test.each(['', 'a\r\nx: y', '"\u00e9"', '"\u0000"', `"${'x'.repeat(300)}"`])(
    'takes no validator that could break a header or a row: %j',
    (etag) => {
      expect(readCaching({ etag })).toEqual(NOTHING);
    },
  );
});

test('sends validators back unchanged', () => {
  expect(validatorHeaders({ etag: '"a"', lastModified: DATE })).toEqual({
    'if-none-match': '"a"',
    'if-modified-since': DATE,
  });
  expect(validatorHeaders({ etag: null, lastModified: null })).toEqual({});
  expect(validatorHeaders(undefined)).toEqual({});
});
