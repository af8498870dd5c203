import { describe, expect, test } from 'vitest';
import { isAboutReading, isAboutWriting, isCertainlyAbout } from '../../../src/nostr/notice.ts';

const ID = 'a1b2c3d4e5f6';

describe('the request that a NOTICE refers to', () => {
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
  ])('certainly this request: "%s" %s', (text, is) => {
    expect(isCertainlyAbout(text, ID)).toBe(is);
  });
});
