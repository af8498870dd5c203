import { expect, test } from 'vitest';
import { DatabaseError } from '../../../src/database/connection.ts';
import { FrequentTags } from '../../../src/serve/query/frequent-tags.ts';
import { countEvents } from '../../../src/serve/relay/count.ts';

const tookTooLong = () => new DatabaseError('it took too long', '57014', true, null);

test('a tag whose index takes too long is read along time, for an hour', async () => {
  let now = 1;
  const tags = new FrequentTags(() => now);
  const tried: string[] = [];
  const read = async (ms: number, isAlongTime: boolean) => {
    tried.push(`${isAlongTime ? 'time' : 'index'} ${ms}`);
    if (!isAlongTime) throw tookTooLong();
    return 'page';
  };
  expect(await tags.read('a', 10_000, read)).toBe('page');
  expect(await tags.read('a', 10_000, read)).toBe('page');
  now += 3_600_000;
  expect(await tags.read('a', 10_000, read)).toBe('page');
  expect(tried).toEqual(['index 1000', 'time 10000', 'time 10000', 'time 10000']);
  now += 1;
  await tags.read('a', 10_000, read);
  expect(tried.slice(4)).toEqual(['index 1000', 'time 10000']);
});

test('other errors, and a time that is up, are not tried again', async () => {
  const tags = new FrequentTags();
  const other = async () => {
    throw new Error('lost');
  };
  await expect(tags.read('a', 10_000, other)).rejects.toThrow('lost');
  const short = async () => {
    throw tookTooLong();
  };
  await expect(tags.read('a', 500, short)).rejects.toThrow('it took too long');
});

test('a count that takes too long is what the planner expects', async () => {
  const statements: string[] = [];
  let calls = 0;
  const query = async (text: string) => {
    statements.push(text);
    return { rows: [{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': 41.7 } }] }] };
  };
  const read = async (work: (query: never) => Promise<unknown>) => {
    calls += 1;
    if (calls === 1) throw tookTooLong();
    return work(query as never);
  };
  const counted = await countEvents([{ authors: ['ab'.repeat(32)], limit: 3 }], read as never);
  expect(counted).toEqual({ count: 42, approximate: true });
  expect(statements).toEqual([expect.stringMatching(/^explain .*pubkey = any/s)]);
});
