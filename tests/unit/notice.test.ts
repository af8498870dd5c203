import { describe, expect, test } from 'vitest';
import { isAboutReading, isAboutWriting, refersTo } from '../../src/nostr/notice.ts';
import { refusalOfClose } from '../../src/relay/close-frame.ts';

const ID = 'a1b2c3d4e5f6';

describe('what a NOTICE refers to', () => {
  test.each([
    ['ERROR: too many concurrent REQs', true],
    ['rate-limited: slow down', true],
    ['blocked: by policy', true],
    ['restricted: members only', true],
    ['too many subscriptions', true],
    ['limit too high (max 50)', true],
    ['You must authenticate to read from this relay', true],
    [`subscription ${ID} was refused: not allowed`, true],
    [`restricted: no publishing under ${ID}`, true],
    ['Welcome. Payment is required to publish here, reading is free.', false],
    ['restricted: payment is required to publish', false],
    ['rate-limited: you are posting too fast', false],
    ['blocked: events from this pubkey are not accepted', false],
    ['Welcome to this paid relay', false],
    ['Payment required', false],
  ])('reading: "%s" %s', (text, is) => {
    expect(isAboutReading(text, ID)).toBe(is);
  });

  test.each([
    ['restricted: payment is required to publish', true],
    ['rate-limited: you are posting too fast', true],
    ['blocked: by policy', true],
    [`not allowed: ${ID}`, true],
    ['ERROR: too many concurrent REQs', false],
    ['restricted: reading needs a subscription', false],
    ['Welcome to this paid relay', false],
  ])('writing: "%s" %s', (text, is) => {
    expect(isAboutWriting(text, ID)).toBe(is);
  });

  test.each([
    ['ERROR: too many concurrent REQs', true],
    [`refused ${ID}`, true],
    ['restricted: reading needs a subscription', false],
    ['error: you may not publish', false],
  ])('this request for certain: "%s" %s', (text, is) => {
    expect(refersTo(text, ID)).toBe(is);
  });
});

describe('a refusal in the close frame', () => {
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
