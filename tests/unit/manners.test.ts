import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  afterAuthentication,
  afterVisit,
  type Manners,
  mayReconcile,
  NEW_RELAY,
  type Nip77Obstacle,
  type Reception,
  withoutNip77,
} from '../../src/relay/manners.ts';

const NOW = 1_800_000_000;
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

/** The pauses, in seconds, of so many visits in a row that all went the same way. */
function pauses(reception: Reception, visits: number): number[] {
  let manners = NEW_RELAY;
  return Array.from({ length: visits }, () => {
    manners = afterVisit(manners, reception, NOW);
    return manners.notBefore - NOW;
  });
}

describe('pauses', () => {
  test.each<[Reception, number[], number]>([
    ['rate_limited', [1, 2, 4, 8, 16].map((n) => n * MINUTE), 6 * HOUR],
    ['failed', [5, 10, 20, 40, 80].map((n) => n * MINUTE), 2 * HOUR],
    ['auth_required', [1, 2, 4, 8, 16].map((n) => n * DAY), 30 * DAY],
    ['restricted', [1, 2, 4, 8, 16].map((n) => n * DAY), 30 * DAY],
    ['blocked', [1, 2, 4, 8, 16].map((n) => n * DAY), 30 * DAY],
  ])('after %s double up to a longest one', (reception, first, longest) => {
    const all = pauses(reception, 60);
    expect(all.slice(0, 5)).toEqual(first);
    expect(all.slice(-20)).toEqual(Array(20).fill(longest));
  });

  test('carry their reason, and how often in a row', () => {
    const once = afterVisit(NEW_RELAY, 'failed', NOW);
    expect(once).toMatchObject({ reason: 'failed', refusals: 1 });
    expect(afterVisit(once, 'blocked', NOW)).toMatchObject({
      reason: 'blocked',
      refusals: 2,
      notBefore: NOW + 2 * DAY,
    });
  });

  test('end with a visit that was welcome', () => {
    const paused = afterVisit(afterVisit(NEW_RELAY, 'restricted', NOW), 'restricted', NOW);
    expect(afterVisit(paused, 'welcome', NOW)).toEqual(NEW_RELAY);
    expect(afterVisit(afterVisit(paused, 'welcome', NOW), 'restricted', NOW).notBefore - NOW).toBe(
      DAY,
    );
  });
});

describe('the pace', () => {
  const paces = (start: Manners, receptions: Reception[]) => {
    let manners = start;
    return receptions.map((reception) => {
      manners = afterVisit(manners, reception, NOW);
      return manners.paceMs;
    });
  };

  test('doubles while the relay says that we are too fast, up to half a minute', () => {
    expect(paces(NEW_RELAY, Array(9).fill('rate_limited'))).toEqual([
      500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000,
    ]);
  });

  test('quickens slowly when we are welcome, to none in the end', () => {
    const slow = { ...NEW_RELAY, paceMs: 500 };
    expect(paces(slow, Array(8).fill('welcome'))).toEqual([400, 320, 256, 204, 163, 130, 0, 0]);
  });

  test('has nothing to do with other refusals', () => {
    for (const reception of ['failed', 'auth_required', 'restricted', 'blocked'] as const) {
      expect(paces({ ...NEW_RELAY, paceMs: 700 }, [reception])).toEqual([700]);
      expect(paces(NEW_RELAY, [reception])).toEqual([0]);
    }
  });
});

test('what was learnt of limits and NIP-77 stays, however visits go', () => {
  const receptions: Reception[] = [
    'welcome',
    'failed',
    'rate_limited',
    'auth_required',
    'restricted',
    'blocked',
  ];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...receptions)), (visits) => {
      const learnt: Manners = {
        ...NEW_RELAY,
        pageLimit: 100,
        pageLimitAt: NOW,
        nip77NotBefore: NOW,
        nip77Reason: 'cut',
      };
      const end = visits.reduce<Manners>(
        (manners, visit) => afterVisit(manners, visit, NOW),
        learnt,
      );
      expect(end).toMatchObject({ pageLimit: 100, pageLimitAt: NOW, nip77NotBefore: NOW });
      expect(end.notBefore).toBeLessThanOrEqual(NOW + 30 * DAY);
      expect(Number.isSafeInteger(end.notBefore) && Number.isSafeInteger(end.paceMs)).toBe(true);
      expect(end.notBefore > 0).toBe(end.reason !== null);
    }),
  );
});

test.each<[Nip77Obstacle, number]>([
  ['unsupported', 7 * DAY],
  ['cut', 7 * DAY],
  ['too_large', 7 * DAY],
  ['restricted', 7 * DAY],
  ['auth_required', DAY],
  ['failed', DAY],
  ['rate_limited', 3600],
])('tries NIP-77 again after its refusal (%s) when the stored time has come', (why, delay) => {
  const refused = withoutNip77(NEW_RELAY, why, NOW);
  expect(refused).toMatchObject({ nip77NotBefore: NOW + delay, nip77Reason: why, notBefore: 0 });
  expect(mayReconcile(refused, NOW + delay - 1)).toBe(false);
  expect(mayReconcile(refused, NOW + delay)).toBe(true);
});

test('ignores a time to try NIP-77 again that lies further ahead than any delay', () => {
  expect(mayReconcile(NEW_RELAY, NOW)).toBe(true);
  const wrong = withoutNip77(NEW_RELAY, 'unsupported', NOW + 1000 * DAY);
  expect(mayReconcile(wrong, NOW)).toBe(true);
});

test('a successful authentication lifts the refusal of NIP-77 that asked for it, and no other', () => {
  for (const why of ['auth_required', 'restricted'] as const)
    expect(afterAuthentication(withoutNip77(NEW_RELAY, why, NOW))).toEqual(NEW_RELAY);
  const cut = withoutNip77(NEW_RELAY, 'cut', NOW);
  expect(afterAuthentication(cut)).toEqual(cut);
});
