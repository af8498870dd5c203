/** Every event that verifies on arrival verifies when it is read back, for all of Unicode: as rows, or where rows cannot hold it in quarantine, as the bytes it was. */
import fc from 'fast-check';
import { describe, expect } from 'vitest';
import { signedEvent } from '../../fixtures/events.ts';
import {
  arrived,
  everywhere,
  sign,
  quarantineTest as test,
} from '../../fixtures/visit-quarantine.ts';

describe('events are read back bit for bit', () => {
  test('with every code point, and every lone surrogate', async ({ keeps }) => {
    const blocks: string[] = [];
    for (let start = 0; start <= 0x10ffff; start += 0x2000) {
      const points = Array.from({ length: 0x2000 }, (_, index) => start + index);
      blocks.push(points.map((point) => String.fromCodePoint(point)).join(''));
    }
    blocks.push(blocks[0]?.slice(1) ?? ''); // the first without NUL
    await keeps(
      blocks.flatMap((block) => [sign({ content: block }), sign({ tags: [['t', block]] })]),
    );
    console.log(`${0x110000} code points in ${blocks.length} blocks, as content and as tag value`);
  });

  test.for([
    ['NUL', ['\0', 'a\0b', '\0\0\0']],
    ['half of a pair', ['\ud800', '\udc00', 'a\udbffb', '\udfff\ud800', '\ud83d', '😀\ude00']],
    ['control characters', Array.from({ length: 0x21 }, (_, code) => String.fromCharCode(code))],
    [
      'what JSON escapes',
      ['"', '\\', '/', '\\\\"', '\b\f\n\r\t\v', '\\u0000', '\\ud800', '\u2028\u2029'],
    ],
    [
      'what is no character',
      ['\ufffe', '\uffff', '\ufdd0', '\u{1fffe}', '\u{10ffff}', '\ufeff', '\ufffd'],
    ],
    [
      'what arrays and NULL look like',
      ['NULL', 'null', '{}', '{"a"}', '{,}', '[]', '""', "'", '$1', '%s'],
    ],
    [
      'what looks the same',
      ['é', 'e\u0301', '\u212b', 'Å', 'ﬁ', '\u200b', '\u202e', ' ', '  ', '\u00a0'],
    ],
  ] as const)('%s', async ([_, texts], { keeps }) => keeps(texts.flatMap(everywhere)));

  test('with integers at the limits', async ({ keeps }) => {
    const times = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 33 + 1, 2 ** 39 - 1];
    const kinds = [0, 1, 255, 32_767, 32_768, 65_535];
    await keeps([
      ...times.map((created_at) => sign({ created_at })),
      ...kinds.map((kind) => sign({ kind })),
    ]);
  });

  test('with empty and unusual tags', async ({ keeps }) => {
    const letters = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'];
    await keeps(
      [
        [],
        [[]],
        [[], []],
        [['']],
        [['', '']],
        [['t']],
        [['t', '']],
        [
          ['t', 'x'],
          ['t', 'x'],
          ['t', 'x', 'y'],
        ],
        [['t', 'x', '', '', '']],
        letters.map((letter) => [letter, letter]),
        Array.from({ length: 20_000 }, (_, n) => ['p', n.toString(16).padStart(64, '0')]),
        Array.from({ length: 100_000 }, () => []),
        [Array.from({ length: 100_000 }, () => '')],
        [['t', ...Array.from({ length: 5000 }, (_, n) => `value ${n}`)]],
      ].map((tags) => sign({ tags })),
    );
  });

  test('with tag values of 100 KB, tag values around every index limit, and contents of megabytes', async ({
    keeps,
  }) => {
    const values = [254, 255, 256, 2047, 2048, 2704, 2705, 2712, 2713, 8191, 100_000];
    await keeps([
      ...values.map((length) => sign({ tags: [['d', 'v'.repeat(length)]] })),
      ...values.map((length) => sign({ tags: [['d', '日'.repeat(length / 3)]] })),
      ...values.map((length) => sign({ tags: [['n'.repeat(length), 'v']] })),
      sign({ content: 'x'.repeat(1_000_000) }),
      sign({ content: '日本語🦊'.repeat(100_000) }),
      sign({ content: 'x'.repeat(4 * 1024 * 1024 - 200) }),
      sign({ content: '"'.repeat(2_000_000) }),
      sign({ content: '\0'.repeat(600_000) }),
      sign({ content: '\ud800'.repeat(600_000) }),
    ]);
  });

  test('with any JSON escapes on the wire', async () => {
    const event = sign({ content: 'a/"\\\n\u001f é 日 😀 \u2028', tags: [['t', '😀\u007f']] });
    const plain = JSON.stringify(event);
    const ascii = plain.replace(/[^\x20-\x7e]/g, asEscape).replaceAll('/', '\\/');
    const units = JSON.stringify({ ...event, content: '<content>', tags: [['t', '<value>']] })
      .replace('<content>', () => everyUnit(event.content))
      .replace('<value>', () => everyUnit(event.tags[0]?.[1] ?? ''));
    expect(new Set([plain, ascii, units]).size).toBe(3);
    for (const text of [plain, ascii, units, ` ${JSON.stringify(event, null, 2)}`]) {
      expect(arrived(text)).toEqual(event);
    }
  });

  test('by property: with any UTF-16 strings, some hundred events in a batch', async ({
    archive,
    keeps,
  }) => {
    const unit = fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code));
    const text = fc.oneof(
      fc.string({ maxLength: 40 }),
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.string({ unit, maxLength: 20 }),
      fc.string({
        unit: fc.constantFrom('\0', '\ud800', '\udc00', '"', '\\', '\n', 'a', '日', '😀'),
        maxLength: 8,
      }),
    );
    const template = fc.record({
      content: text,
      created_at: fc.oneof(fc.nat(), fc.integer({ min: 0, max: 2 ** 39 - 1 })),
      kind: fc.integer({ min: 0, max: 65_535 }),
      tags: fc.array(fc.array(text, { maxLength: 4 }), { maxLength: 4 }),
    });
    const seed = Date.now() % 2 ** 31;
    const templates = fc.sample(template, { numRuns: 2500, seed });
    for (let from = 0; from < templates.length; from += 250) {
      await archive.db.query('truncate events, sightings, quarantine');
      const events = templates.slice(from, from + 250).map((parts) => signedEvent(parts));
      await expect(keeps(events), `seed ${seed}`).resolves.toBeUndefined();
    }
    console.log(`${templates.length} random events kept in batches of 250, seed ${seed}`);
  });
});

/** Every UTF-16 unit as \uXXXX, as JSON allows. */
function everyUnit(text: string): string {
  return Array.from({ length: text.length }, (_, index) => asEscape(text.charAt(index))).join('');
}

function asEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
