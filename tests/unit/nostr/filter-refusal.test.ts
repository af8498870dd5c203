import { describe, expect, test } from 'vitest';
import { filterRefusalOf, isFilterRefusal } from '../../../src/nostr/filter-refusal.ts';
import { eventRefusalOf, type Refusal, refusalOf } from '../../../src/nostr/message.ts';

/** What relays say of filters, by what it means. */
const SAID: Record<'filter_refused' | 'too_many_values', readonly string[]> = {
  filter_refused: [
    // khatru: NoEmptyFilters, AntiSyncBots, and policies of relays that are built with it
    "can't handle empty filters",
    'an author must be specified to get their kind:1 notes',
    'filters must specify at least one kind',
    'must specify kinds',
    'query too expensive, add authors or kinds',
    // strfry: filter validation
    'bad req: filter validation failed: filter must have exactly one author, p tag, or e tag',
    'bad req: filter validation failed: kind not allowed: 4',
    // eventstore and others
    'filter must specify at least one ID, kind, author, tag, or time range',
    'a filter has to name kinds or authors',
    'no filters without kinds',
    'REQ without kinds, authors or ids is not served',
    'empty filter',
    'filter cannot be empty',
    'filter too broad',
    'your query is too broad',
    'scraping is not welcome',
    'request too broad, please name kinds or authors',
    'please specify kinds',
    'kinds required',
    'kinds or authors are required',
    'missing kinds',
    'cannot request both meta and normal events',
    'filter is not specific enough',
    'at least one kind or author is needed',
    'we need at least one of kinds, authors or ids',
    'requests without authors are not served',
    'kindless REQs are not served here',
    'unscoped queries are disabled',
    'wide-open filters are not served',
    'requesting everything is not possible',
    'filter rejected',
    'this filter is not allowed',
  ],
  too_many_values: [
    'too many kinds asked for',
    'exactly one kind per filter, please',
    'only 1 filter per REQ',
    'too many kinds in filter: 139',
    'too many kinds (max 100)',
    'bad req: filter validation failed: too many kinds in filter: 20',
    'bad req: filter validation failed: invalid number of filters: 12',
    'too many authors in filter (max 100)',
    'too many authors',
    'too many ids',
    'too many event ids',
    'too many tags in filter: 41',
    "too many tag values for tag 'p': 2000 (max 1000)",
    'too many things to filter for', // khatru: NoComplexFilters
    'Too many filters: Number of filters per subscription must be less then or equal to 10', // nostream
    'max number of filters per subscription (10) reached', // nostriphant
    'filter has too many values',
    'filter has too many elements',
    'max kinds exceeded',
    'maximum number of authors exceeded',
    'number of kinds exceeds 10',
    'kinds: at most 10',
    'more than 10 kinds',
    'only 3 kinds per filter',
    'maximum 10 kinds',
    'limit of 10 kinds exceeded',
    '10 kinds at most',
    'kinds limit is 10',
    'kinds array too long',
    'the list of kinds is too long',
    'please ask for fewer kinds',
  ],
};

const PREFIXES = [
  '',
  'blocked: ',
  'error: ',
  'invalid: ',
  'restricted: ',
  'unsupported: ',
  'ERROR: ',
];

/** What says nothing of a filter's shape, and what it is instead. */
const OTHERS: readonly (readonly [Refusal, string])[] = [
  ['rate_limited', 'rate-limited: too many kinds of requests'],
  ['rate_limited', 'too many requests'],
  ['rate_limited', 'ERROR: too many concurrent REQs'],
  ['rate_limited', 'too many messages'],
  ['rate_limited', 'too many open subscriptions'],
  [
    'rate_limited',
    'Too many subscriptions: Number of subscriptions must be less than or equal to 10',
  ],
  ['auth_required', 'auth-required: an author must be specified to get their kind:1 notes'],
  ['auth_required', 'auth-required: kind 1 scraping requires authentication'],
  ['auth_required', 'error: kind 4 is served after authentication, which is required'],
  ['auth_required', 'this filter requires auth for kinds 4 and 1059'],
  ['blocked', 'blocked: you are banned for scraping'],
  ['blocked', 'blocked: filter limit too large'],
  ['restricted', 'restricted: only paid members may use filters without kinds'],
  ['limit', 'filter limit too large'],
  ['limit', 'invalid: limit of the filters must be at most 500'],
  ['limit', 'requested 1000 events, which exceeds the limit'],
  ['other', 'invalid: malformed filter'],
  ['other', 'unsupported: filter contains unknown elements'],
  ['other', 'Authors of this relay: example.com'],
  ['other', 'We serve all kinds of events'],
];

const CASES = (['filter_refused', 'too_many_values'] as const).flatMap((refusal) =>
  SAID[refusal].map((text) => [refusal, text] as const),
);

describe('a refusal of a filter', () => {
  test.each(CASES)('%s: "%s", with any prefix', (refusal, text) => {
    for (const prefix of PREFIXES)
      expect([prefix, refusalOf(prefix + text)]).toEqual([prefix, refusal]);
    expect(refusalOf(text.toUpperCase())).toBe(refusal);
    expect(isFilterRefusal(refusalOf(text))).toBe(true);
  });

  test.each(CASES)('is not %s: "%s" as the answer to a published event', (_refusal, text) => {
    expect(isFilterRefusal(eventRefusalOf(`blocked: ${text}`))).toBe(false);
  });
});

describe('a refusal of something else', () => {
  test.each(OTHERS)('%s: "%s"', (refusal, text) => {
    expect(refusalOf(text)).toBe(refusal);
    expect(isFilterRefusal(refusalOf(text))).toBe(false);
  });
});

test('repeated words do not make the patterns slow', () => {
  const slow = ['filter must '.repeat(40), 'kinds '.repeat(80), 'most kinds '.repeat(45)];
  for (const text of slow) {
    expect(['filter_refused', 'too_many_values', null]).toContain(filterRefusalOf(text));
  }
});
