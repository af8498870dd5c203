import { describe, expect, test } from 'vitest';
import type { DescribedRow, Unit } from '../../../src/database/descriptions.ts';
import { jsonOf, screenOf } from '../../../src/local/screen.ts';

const NOW = Date.parse('2026-11-30T12:00:00Z');

const row = (section: string, name: string, value: string, unit: Unit = 'text'): DescribedRow => ({
  ...{ section, name, value, unit },
});
/** The value of a row as it is shown. */
const shown = (value: string, unit: Unit, age?: number | null): string =>
  screenOf([{ ...row('a', 'b', value, unit), ...(age !== undefined && { age }) }], NOW)
    .trimEnd()
    .replace(/^a {2}b {2}/, '');

describe('screenOf', () => {
  test('prints a paragraph a section, names and values in columns', () => {
    const rows = [row('relay', 'url', 'wss://one.example.com'), row('relay', 'network', 'tor')];
    expect(screenOf([...rows, row('state', 'since when', 'x')], NOW)).toBe(
      [
        'relay  url         wss://one.example.com',
        '       network     tor',
        '',
        'state  since when  x',
        '',
      ].join('\n'),
    );
  });

  test('begins a paragraph for each filter, and none for a name that comes again within it', () => {
    const rows = ['filter', 'part', 'part', 'filter'].map((name) => row('coverage', name, '{}'));
    expect(screenOf(rows, NOW).split('\n')).toEqual([
      'coverage  filter  {}',
      '          part    {}',
      '          part    {}',
      '',
      'coverage  filter  {}',
      '',
    ]);
  });

  test.each<[string, Unit, string]>([
    ['2026-11-30T11:59:15Z', 'time', '2026-11-30 11:59:15 UTC (45 s ago)'],
    ['2026-11-30T10:00:00Z', 'time', '2026-11-30 10:00:00 UTC (2 h ago)'],
    ['2026-11-30T12:05:30Z', 'time', '2026-11-30 12:05:30 UTC (in 5 min)'],
    ['2020-11-07T00:00:00Z', 'time', '2020-11-07 00:00:00 UTC (6 y ago)'],
    ['19391-01-01T00:00:00Z', 'time', '19391-01-01T00:00:00Z'],
    ['20574', 'count', '20,574'],
    ['1200000', 'estimate', 'about 1,200,000'],
    ['1', 'share', '100 %'],
    ['0.999999', 'share', '99.99 %'],
    ['0.4525', 'share', '45.25 %'],
    ['0', 'share', '0 %'],
    ['999', 'bytes', '999 bytes'],
    ['466746727', 'bytes', '466.7 MB'],
    ['1400000000000', 'bytes', '1.4 TB'],
    ['1500', 'milliseconds', '1,500 ms'],
  ])('shows %s as %s: %s', (value, unit, expected) => {
    expect(shown(value, unit)).toBe(expected);
  });

  test('says how old an estimate is', () => {
    expect(shown('7', 'estimate', 7300)).toBe('about 7 (by statistics of 2 h ago)');
    expect(shown('7', 'estimate', null)).toBe('about 7 (no statistics yet)');
    expect(shown('7', 'count', 0)).toBe('7');
  });

  test('replaces control characters, which words of a relay may hold', () => {
    expect(shown('closed: \x1b[2Jgone\r\nx\u202e', 'text')).toBe('closed: �[2Jgone��x�');
  });
});

test('jsonOf keeps the words of a relay as they are, in one document', () => {
  const rows = [row('visit', 'in words', '\x1b[2J"')];
  expect(JSON.parse(jsonOf({ known: true, rows }))).toEqual({ known: true, rows });
  expect(jsonOf({ rows })).not.toContain('\x1b');
});
