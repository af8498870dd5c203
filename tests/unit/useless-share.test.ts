import { expect, test } from 'vitest';
import { UselessShare } from '../../src/relay/useless-share.ts';

const KB = 1024;

test('a little that is of no use costs no wait', () => {
  const account = new UselessShare(1000 * KB).open();
  expect([account.spend(30 * KB), account.spend(30 * KB)]).toEqual([0, 0]);
});

test('who sends more waits for as long as its share takes', () => {
  const share = new UselessShare(1000 * KB);
  const account = share.open();
  expect(account.spend(100 * KB)).toBe(100);
  expect(share.waiting).toBe(1);
  expect(account.spend(500 * KB)).toBe(0); // it waits already: what was under way counts for the next time
  account.release();
  expect(share.waiting).toBe(0);
  expect(account.spend(0)).toBe(500);
});

test('those who wait share what there is, and whoever is gone gives it back', () => {
  const share = new UselessShare(1000 * KB);
  const accounts = [share.open(), share.open(), share.open()];
  expect(accounts.map((account) => account.spend(100 * KB))).toEqual([100, 200, 300]);
  for (const account of accounts) {
    account.release();
    account.release(); // once is enough
  }
  expect(share.waiting).toBe(0);
  expect(share.open().spend(100 * KB)).toBe(100);
});
