/** Visits to relays that each have one fault. Each ends with its outcome, reason and counters, and stores what is valid. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { idsOf } from '../fixtures/events.ts';
import { type TestArchive, testArchive } from '../fixtures/visit-context.ts';
import { GOOD, HOSTILE } from '../relay/hostile-relays.ts';

/** The machine may be busy: what is not about time must not fail for want of it. */
const CONNECT_MS = 10_000;
const TIMEOUT_MS = 5000;
const VISIT_MS = 60_000;
const GOOD_IDS = idsOf(GOOD);

describe.concurrent('a visit to a relay that', () => {
  let archive: TestArchive;
  beforeAll(async () => {
    archive = await testArchive();
  });
  afterAll(async () => {
    expect(await archive.allIds()).toEqual(GOOD_IDS);
    await archive.close();
  });

  /** Good events whose second the archive claims to have covered. */
  async function claimed(url: string): Promise<string[]> {
    const stretches = [...(await archive.covered(url)).matchAll(/\[(\d+),(\d+)\)/g)];
    const isIn = (second: number) =>
      stretches.some(([, since, until]) => second >= Number(since) && second < Number(until));
    return idsOf(GOOD.filter(({ created_at }) => isIn(created_at)));
  }

  test.for(HOSTILE)('$name', async ({ expected, filter = {}, start }, { expect }) => {
    const { visitMs = VISIT_MS } = expected;
    const relay = await start();
    try {
      const report = await archive.visit(relay.url, {
        connect: { timeoutMs: CONNECT_MS, allowPrivate: true, torProxy: null },
        requestTimeoutMs: TIMEOUT_MS,
        visitMs,
        secretKey: Buffer.alloc(32, 3),
        filter,
      });
      expect(relay.happened()).toBeGreaterThan(0);
      expect(relay.strayed()).toBe(0);
      const { outcome, detail = null, invalid = [], stored = 'all' } = expected;
      expect(report.outcome, JSON.stringify(report)).toBe(outcome);
      if (detail === null) expect(report.detail).toBeNull();
      else expect(report.detail).toMatch(detail);
      expect(Object.keys(report.invalid)).toEqual(invalid);
      const [row] = await archive.db.query(
        'select outcome, detail, ended_at is not null as ended from visits join relays using (relay_id) where url = $1',
        [relay.url],
      );
      expect(row).toEqual({ outcome, detail: report.detail, ended: true });

      const ids = await archive.ids(relay.url);
      expect(GOOD_IDS).toEqual(expect.arrayContaining(ids));
      if (stored === 'all') expect(ids).toEqual(GOOD_IDS);
      else if (stored === 'none') expect(ids).toEqual([]);
      else expect(ids.length).toBeGreaterThan(0);
      if (Object.keys(filter).length === 0)
        expect(ids).toEqual(expect.arrayContaining(await claimed(relay.url)));
    } finally {
      await relay.stop();
    }
  });
});
