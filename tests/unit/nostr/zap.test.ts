import { describe, expect, test } from 'vitest';
import { readZap } from '../../../src/nostr/zap.ts';

const [ALICE, BOB, NOTE] = ['a', 'b', 'c'].map((digit) => digit.repeat(64)) as [
  string,
  string,
  string,
];
const NOTHING = { sender: null, recipient: null, target: null, millisats: null };
const invoice = (amount: string) => `lnbc${amount}1${'q'.repeat(60)}`;
const request = (fields: object) => JSON.stringify({ kind: 9734, pubkey: ALICE, ...fields });

describe('readZap', () => {
  test('reads sender, recipient, target and amount of a receipt', () => {
    const tags = [
      ['p', BOB],
      ['e', NOTE],
      ['bolt11', invoice('2100n')],
      ['description', request({})],
    ];
    expect(readZap(tags)).toEqual({
      ...{ sender: ALICE, recipient: BOB, target: NOTE, millisats: 210_000 },
    });
  });

  test.each([
    ['', null],
    ['1m', 100_000_000],
    ['25u', 2_500_000],
    ['10p', 1],
    ['1', 100_000_000_000],
    ['99999999999999', null],
  ])('reads the amount %s', (amount, millisats) => {
    expect(readZap([['bolt11', invoice(amount)]])).toEqual({ ...NOTHING, millisats });
  });

  test('takes the sender from the tag P where there is no zap request', () => {
    for (const description of [
      '',
      'null',
      '{',
      '[]',
      '7',
      request({ kind: 1 }),
      request({ pubkey: 7 }),
    ])
      expect(
        readZap([
          ['description', description],
          ['P', ALICE],
        ]).sender,
      ).toBe(ALICE);
    expect(readZap([['P', ALICE.toUpperCase()], ['p'], ['e', 'c'.repeat(63)], ['bolt11']])).toEqual(
      NOTHING,
    );
  });
});
