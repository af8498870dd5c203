import { describe, expect, test } from 'vitest';
import { refusalOfClose } from '../../../src/relay-client/close-frame.ts';

describe('refusalOfClose', () => {
  test.each([
    [1008, 'rate-limited: too many connections', 'rate_limited'],
    [1008, 'blocked: your address is banned', 'blocked'],
    [1008, 'auth-required: log in', 'auth_required'],
    [1000, 'restricted: members only', 'restricted'],
    [4000, 'too many requests', 'rate_limited'],
    [1013, '', 'rate_limited'],
    [1013, 'restarting', 'rate_limited'],
    [1008, '', null],
    [1001, 'going away', null],
    [1008, 'limit must be at most 500', null],
    [1006, 'blocked', null],
  ])('%i "%s": %s', (code, reason, refusal) => {
    expect(refusalOfClose({ code, reason })).toBe(refusal);
  });
});
