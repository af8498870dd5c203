import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  afterAuthentication,
  afterVisit,
  mayReconcile,
  NEW_RELAY_POLICY,
  type Nip77Obstacle,
  type RelayPolicy,
  type VisitResult,
  withoutNip77,
} from '../../../src/network/relay-policy.ts';

const NOW = 1_800_000_000;
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

/** The pauses, in seconds, after each of `visits` visits in a row with the same result. */
function pauses(visitResult: VisitResult, visits: number): number[] {
  let policy = NEW_RELAY_POLICY;
  return Array.from({ length: visits }, () => {
    policy = afterVisit(policy, visitResult, NOW);
    return policy.notBefore - NOW;
  });
}

describe('the pause of a relay', () => {
  test.each<[VisitResult, number[], number]>([
    ['rate_limited', [1, 2, 4, 8, 16].map((n) => n * MINUTE), 6 * HOUR],
    ['failed', [5, 10, 20, 40, 80].map((n) => n * MINUTE), 2 * HOUR],
    ['auth_required', [1, 2, 4, 8, 16].map((n) => n * DAY), 30 * DAY],
    ['restricted', [1, 2, 4, 8, 16].map((n) => n * DAY), 30 * DAY],
    ['blocked', [1, 2, 4, 8, 16].map((n) => n * DAY), 30 * DAY],
  ])('doubles after each %s, up to a maximum', (visitResult, first, longest) => {
    const all = pauses(visitResult, 60);
    expect(all.slice(0, 5)).toEqual(first);
    expect(all.slice(-20)).toEqual(Array(20).fill(longest));
  });

  test('stores its reason and the number of refusals in a row', () => {
    const once = afterVisit(NEW_RELAY_POLICY, 'failed', NOW);
    expect(once).toMatchObject({ reason: 'failed', refusals: 1 });
    expect(afterVisit(once, 'blocked', NOW)).toMatchObject({
      reason: 'blocked',
      refusals: 2,
      notBefore: NOW + 2 * DAY,
    });
  });

  test('ends after a successful visit', () => {
    const paused = afterVisit(afterVisit(NEW_RELAY_POLICY, 'restricted', NOW), 'restricted', NOW);
    expect(afterVisit(paused, 'ok', NOW)).toEqual(NEW_RELAY_POLICY);
    expect(afterVisit(afterVisit(paused, 'ok', NOW), 'restricted', NOW).notBefore - NOW).toBe(DAY);
  });
});

describe('the pace of requests', () => {
  const paces = (start: RelayPolicy, receptions: VisitResult[]) => {
    let policy = start;
    return receptions.map((visitResult) => {
      policy = afterVisit(policy, visitResult, NOW);
      return policy.paceMs;
    });
  };

  test('doubles while the relay rate-limits, up to 30 s', () => {
    expect(paces(NEW_RELAY_POLICY, Array(9).fill('rate_limited'))).toEqual([
      500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000,
    ]);
  });

  test('decreases slowly after successful visits, down to 0', () => {
    const slow = { ...NEW_RELAY_POLICY, paceMs: 500 };
    expect(paces(slow, Array(8).fill('ok'))).toEqual([400, 320, 256, 204, 163, 130, 0, 0]);
  });

  test('does not depend on other refusals', () => {
    for (const visitResult of ['failed', 'auth_required', 'restricted', 'blocked'] as const) {
      expect(paces({ ...NEW_RELAY_POLICY, paceMs: 700 }, [visitResult])).toEqual([700]);
      expect(paces(NEW_RELAY_POLICY, [visitResult])).toEqual([0]);
    }
  });
});

test('learnt limits and the state of NIP-77 survive any result of a visit', () => {
  const receptions: VisitResult[] = [
    'ok',
    'failed',
    'rate_limited',
    'auth_required',
    'restricted',
    'blocked',
  ];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...receptions)), (visits) => {
      const learnt: RelayPolicy = {
        ...NEW_RELAY_POLICY,
        pageLimit: 100,
        pageLimitAt: NOW,
        nip77NotBefore: NOW,
        nip77Reason: 'cut',
      };
      const end = visits.reduce<RelayPolicy>(
        (policy, visit) => afterVisit(policy, visit, NOW),
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
])('tries NIP-77 again after a refusal (%s) when the stored time has passed', (why, delay) => {
  const refused = withoutNip77(NEW_RELAY_POLICY, why, NOW);
  expect(refused).toMatchObject({ nip77NotBefore: NOW + delay, nip77Reason: why, notBefore: 0 });
  expect(mayReconcile(refused, NOW + delay - 1)).toBe(false);
  expect(mayReconcile(refused, NOW + delay)).toBe(true);
});

test('ignores a retry time for NIP-77 that lies further ahead than any delay', () => {
  expect(mayReconcile(NEW_RELAY_POLICY, NOW)).toBe(true);
  const wrong = withoutNip77(NEW_RELAY_POLICY, 'unsupported', NOW + 1000 * DAY);
  expect(mayReconcile(wrong, NOW)).toBe(true);
});

test('a successful authentication clears a refusal of NIP-77 for lack of it, and no other', () => {
  for (const why of ['auth_required', 'restricted'] as const)
    expect(afterAuthentication(withoutNip77(NEW_RELAY_POLICY, why, NOW))).toEqual(NEW_RELAY_POLICY);
  const cut = withoutNip77(NEW_RELAY_POLICY, 'cut', NOW);
  expect(afterAuthentication(cut)).toEqual(cut);
});
