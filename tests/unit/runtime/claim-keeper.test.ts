import { spawn } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Claim } from '../../../src/database/bigbrotr.ts';
import { DatabaseError } from '../../../src/database/connection.ts';
import { ClaimKeeper, type ClaimKeeperOptions } from '../../../src/runtime/claim-keeper.ts';
import { silent } from '../../postgres/bigbrotr.ts';

/** The clock is made up: nothing here waits. */
beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

const LEASE = 60;

/** Table `claims` of one archive, without a clock: leases end when a test says so. */
class Table {
  readonly rows = new Map<string, { holder: string; token: number }>();
  readonly statements: string[] = [];
  away = false;
  /** Whether renewals get no answer. */
  mute = false;
  #token = 0;

  asArchive(): ClaimKeeperOptions['archive'] {
    const said = (statement: string) => {
      if (this.away) throw new DatabaseError('gone', '08006', false, null);
      this.statements.push(statement);
    };
    return {
      take: async (work, _filterId, wanted, holder) => {
        said(`take ${wanted.map(({ key }) => key)}`);
        return wanted.flatMap(({ key }): Claim[] => {
          const row = this.rows.get(`${work} ${key}`);
          if (row && row.holder !== holder) return [];
          this.#token += 1;
          this.rows.set(`${work} ${key}`, { holder, token: this.#token });
          return [{ work, key, token: this.#token }];
        });
      },
      renew: async (claims) => {
        said(`renew ${claims.map(({ key }) => key)}`);
        if (this.mute) return new Promise<never>(() => {});
        return claims.filter(
          ({ work, key, token }) => this.rows.get(`${work} ${key}`)?.token === token,
        );
      },
      release: async ({ ended, interrupted }) => {
        said(`release ${ended.map(({ key }) => key)} / ${interrupted.map(({ key }) => key)}`);
        for (const { work, key } of ended) this.rows.delete(`${work} ${key}`);
      },
      forgetOld: async () => 0,
      holdersLike: async (beginning) =>
        [...this.rows.values()]
          .map(({ holder }) => holder)
          .filter((holder) => holder.startsWith(beginning)),
      endLeasesOf: async (holders) => {
        for (const [name, { holder }] of this.rows)
          if (holders.includes(holder)) this.rows.delete(name);
      },
    };
  }

  /** Another process takes a claim over. */
  takeOver(work: string, key: number): void {
    this.#token += 1;
    this.rows.set(`${work} ${key}`, { holder: 'another process', token: this.#token });
  }
}

let table: Table;
let keeper: ClaimKeeper;
let lost: number[];
const counted = { held: 0, lost: [] as string[] };
const metrics = {
  claimsHeld: (count: number) => {
    counted.held = count;
  },
  claimLost: (work: string) => {
    counted.lost.push(work);
  },
};

beforeEach(async () => {
  table = new Table();
  lost = [];
  counted.lost = [];
  keeper = new ClaimKeeper({
    ...{ archive: table.asArchive(), log: silent, metrics, leaseSeconds: LEASE },
  });
  keeper.onLost('visit', (key) => lost.push(key));
  await keeper.start();
  return () => keeper.stop();
});

const wanted = (...keys: number[]) => keys.map((key) => ({ key, seenAt: null }));
const claim = (...keys: number[]) => keeper.claim('visit', 1, wanted(...keys));
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

describe('ClaimKeeper', () => {
  test('claims relays without another holder, under a name of host, process id and a random part', async () => {
    table.takeOver('visit', 2);
    expect([...(await claim(1, 2, 3)).keys()]).toEqual([1, 3]);
    expect(keeper.shown).toEqual({ holder: keeper.holder, held: 2, lost: 0 });
    expect(counted.held).toBe(2);
    expect(keeper.holder).toMatch(new RegExp(`^.+:${process.pid}:[0-9a-f]{16}$`));
    const other = new ClaimKeeper({ archive: table.asArchive(), log: silent, metrics });
    expect(other.holder).not.toBe(keeper.holder);
    expect(other.leaseSeconds).toBe(60);
  });

  test('ends the claims of processes of this machine that are gone, and of no others', async () => {
    const pid = await new Promise<number>((resolve) => {
      const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
      child.once('exit', () => resolve(child.pid ?? 0));
    });
    const nameOf = (id: number, tail = '') => {
      const [host, , rest = ''] = keeper.holder.split(':');
      return `${host}:${id}:${tail || rest.slice(0, 8)}01234567`;
    };
    const elsewhere = nameOf(pid, '89abcdef'); // a container of the same name
    for (const [key, holder] of [nameOf(pid), nameOf(process.pid), elsewhere, 'x:1:y'].entries())
      table.rows.set(`visit ${key}`, { holder, token: 1 });
    await new ClaimKeeper({ archive: table.asArchive(), log: silent, metrics }).start();
    expect([...table.rows.values()].map(({ holder }) => holder)).toEqual([
      ...[nameOf(process.pid), elsewhere, 'x:1:y'],
    ]);
  });

  test('renews all claims in one statement, three times in a lease', async () => {
    await claim(1, 2, 3);
    await pass(LEASE * 1000 + 500);
    expect(table.statements.filter((said) => said === 'renew 1,2,3')).toHaveLength(3);
    expect(keeper.shown).toMatchObject({ held: 3, lost: 0 });
  });

  test('does not look at the clock of its host, which may be hours off or set', async () => {
    await claim(1, 2);
    for (const hours of [9, -20]) {
      vi.setSystemTime(Date.now() + hours * 3_600_000);
      await pass(90_000);
    }
    expect(keeper.shown).toMatchObject({ held: 2, lost: 0 });
    expect(table.statements.filter((said) => said === 'renew 1,2').length).toBeGreaterThanOrEqual(
      8,
    );
  });

  test('reports a claim that another process has taken over once', async () => {
    await claim(1, 2);
    table.takeOver('visit', 1);
    await pass(70_000);
    expect(lost).toEqual([1]);
    expect(keeper.shown).toMatchObject({ held: 1, lost: 1 });
    expect(counted.lost).toEqual(['visit']);
    keeper.lose('visit', 1); // the job that wrote under it tells too
    expect(lost).toEqual([1]);
  });

  test('gives the token of a claim that it holds already, without asking', async () => {
    const before = await claim(1);
    expect(await claim(1)).toEqual(before);
    expect(table.statements).toEqual(['take 1']);
  });

  test('collects releases; a relay that is claimed again before keeps its token', async () => {
    const before = await claim(1, 2, 3);
    for (const key of [1, 2]) keeper.release('visit', key, 'done');
    keeper.release('visit', 3, 'interrupted');
    expect(keeper.shown.held).toBe(0);
    expect((await claim(2)).get(2)).toBe(before.get(2));
    await pass(1000);
    expect(table.statements.slice(1)).toEqual(['release 1 / 3']);
    expect(keeper.shown.held).toBe(1);
  });

  test('leaves the claim of a lost job to the end of its lease', async () => {
    await claim(1);
    keeper.release('visit', 1, 'left');
    await pass(90_000);
    expect(table.statements.filter((said) => said.includes('1'))).toEqual(['take 1']);
  });

  test('retries a renewal within a second while the database is unreachable, and keeps its claims', async () => {
    await claim(1, 2);
    table.away = true;
    await pass(45_000);
    expect(lost).toEqual([]);
    table.away = false;
    table.takeOver('visit', 2);
    await pass(2000);
    expect(lost).toEqual([2]);
    await pass(30_000);
    expect(keeper.shown).toMatchObject({ held: 1, lost: 1 });
  });

  test('asks anew for a renewal that got no answer in a third of a lease', async () => {
    await claim(1);
    table.mute = true;
    await pass(25_000);
    table.mute = false;
    await pass(60_000);
    expect(lost).toEqual([]);
    expect(keeper.shown.held).toBe(1);
  });

  test('gives claims up that it could not renew, a sixth of the lease before its end', async () => {
    await claim(1, 2);
    table.away = true;
    await pass((LEASE * 5000) / 6 - 500);
    expect(lost).toEqual([]);
    await pass(1000);
    expect(lost).toEqual([1, 2]);
    table.away = false;
    expect([...(await claim(1)).keys()]).toEqual([1]); // the archive still has this process as its holder
  });

  test('counts a lease from its renewal, also where the relay was released and claimed again', async () => {
    await claim(1);
    table.away = true;
    await pass((LEASE * 5000) / 6 - 500);
    keeper.release('visit', 1, 'done');
    expect((await claim(1)).size).toBe(1);
    await pass(3000);
    expect(lost).toEqual([1]);
  });

  test('gives up everything in one statement when it stops: visits are due at once', async () => {
    await claim(1, 2);
    await keeper.claim('check', null, wanted(7));
    keeper.release('visit', 2, 'done');
    await keeper.stop();
    expect(table.statements.at(-1)).toBe('release 2,7 / 1');
    expect((await claim(9)).size).toBe(0);
    await pass(100_000);
    expect(table.statements.at(-1)).toBe('release 2,7 / 1');
  });

  test('stops within seconds without a database', async () => {
    await claim(1);
    const archive = { ...table.asArchive(), release: () => new Promise<void>(() => {}) };
    const stuck = new ClaimKeeper({ archive, log: silent, metrics, leaseSeconds: LEASE });
    await stuck.claim('visit', 1, wanted(5));
    const stopped = stuck.stop();
    await pass(3000);
    await stopped;
  });
});
