import { expect, test } from 'vitest';
import { JunkLimit } from '../../../src/relay-client/junk-limit.ts';

const KB = 1024;

test('a little junk causes no wait', () => {
  const account = new JunkLimit(1000 * KB).open();
  expect([account.spend(30 * KB), account.spend(30 * KB)]).toEqual([0, 0]);
});

test('more junk causes a wait in proportion to its bytes', () => {
  const share = new JunkLimit(1000 * KB);
  const account = share.open();
  expect(account.spend(100 * KB)).toBe(100);
  expect(share.waiting).toBe(1);
  expect(account.spend(500 * KB)).toBe(0); // it waits already: what was under way counts for the next time
  account.release();
  expect(share.waiting).toBe(0);
  expect(account.spend(0)).toBe(500);
});

test('waiting connections share the rate, and release it when they close', () => {
  const share = new JunkLimit(1000 * KB);
  const accounts = [share.open(), share.open(), share.open()];
  expect(accounts.map((account) => account.spend(100 * KB))).toEqual([100, 200, 300]);
  for (const account of accounts) {
    account.release();
    account.release(); // once is enough
  }
  expect(share.waiting).toBe(0);
  expect(share.open().spend(100 * KB)).toBe(100);
});
