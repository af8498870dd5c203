import type { NostrEvent } from '../../src/nostr/event.ts';

/**
 * NIP-66 read as a list of rules for each kind and tag, by its text alone: nothing here knows how our events are made.
 * Tags that the NIP does not name are none of its business.
 */

type Rule = (values: readonly string[]) => boolean;

const only =
  (pattern: RegExp): Rule =>
  (values) =>
    values.length === 1 && pattern.test(values[0] ?? '');
const digits = only(/^\d+$/);
/** "Geohash" of NIP-52. */
const geohash = only(/^[0-9b-hjkmnp-z]{1,12}$/);
const kind = only(/^!?\d{1,5}$/);

const DISCOVERY_TAGS: Readonly<Record<string, Rule>> = {
  // "MUST be set to the relay's normalized URL" (RFC 3986 section 6)
  d: ([url = '', ...rest]) =>
    rest.length === 0 && /^wss?:\/\/[^/]+\//.test(url) && new URL(url).href === url,
  'rtt-open': digits,
  'rtt-read': digits,
  'rtt-write': digits,
  n: only(/^(clearnet|tor|i2p|loki)$/),
  T: only(/^([A-Z][a-z]*)+$/), // PascalCase
  N: digits,
  R: only(/^!?(auth|writes|pow|payment)$/),
  t: only(/./),
  k: kind,
  g: geohash,
  l: ([label = '', namespace = '', ...rest]) =>
    label !== '' && namespace !== '' && rest.length === 0,
};

const ANNOUNCEMENT_TAGS: Readonly<Record<string, Rule>> = {
  frequency: digits,
  // The text: milliseconds, for all tests. The example: the test, then milliseconds.
  timeout: ([first = '', second, ...rest]) =>
    rest.length === 0 &&
    (second === undefined
      ? /^\d+$/.test(first)
      : /^[a-z0-9]+$/.test(first) && /^\d+$/.test(second)),
  c: only(/^[a-z0-9]+$/),
  g: geohash,
};

const RELAY_LIST_TAGS: Readonly<Record<string, Rule>> = {
  r: ([url = '', marker, ...rest]) =>
    rest.length === 0 &&
    /^wss?:\/\//.test(url) &&
    (marker === undefined || ['read', 'write'].includes(marker)),
};

interface KindRules {
  readonly tags: Readonly<Record<string, Rule>>;
  /** Tags that must be there, exactly once. */
  readonly required: readonly string[];
  /** Whether `content` may be this. */
  readonly content: (text: string) => boolean;
}

const isObject = (text: string) => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
};
const isEmpty = (text: string) => text === '';

const KINDS: Readonly<Record<number, KindRules>> = {
  0: { tags: {}, required: [], content: isObject },
  10002: { tags: RELAY_LIST_TAGS, required: [], content: isEmpty },
  10166: { tags: ANNOUNCEMENT_TAGS, required: ['frequency'], content: isEmpty },
  30166: {
    tags: DISCOVERY_TAGS,
    required: ['d'],
    content: (text) => isEmpty(text) || isObject(text),
  },
};

/** Everything in which an event breaks NIP-66, a sentence each. */
export function faultsByNip66({ kind, tags, content }: NostrEvent): string[] {
  const rules = KINDS[kind];
  if (!rules) return [`kind ${kind} is none of a monitor`];
  const wrong = tags
    .filter(([name = '', ...values]) => rules.tags[name]?.(values) === false)
    .map((tag) => `tag ${JSON.stringify(tag)} of kind ${kind} is not as the NIP has it`);
  const missing = rules.required
    .filter((name) => tags.filter(([tag]) => tag === name).length !== 1)
    .map((name) => `kind ${kind} has not exactly one tag ${name}`);
  const text = rules.content(content) ? [] : [`kind ${kind} has a content that is not allowed`];
  return [...wrong, ...missing, ...text];
}
