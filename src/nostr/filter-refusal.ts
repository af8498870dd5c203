/**
 * Why a relay refuses a filter, whatever prefix its text has. Only that request is refused, not the client:
 * - `filter_refused`: the filter must name something (kinds, authors, ids), or names what the relay does not serve;
 * - `too_many_values`: a list of the filter is too long, or there are too many filters.
 *
 * The texts are those of khatru's policies, strfry's filter validation, nostream, eventstore, nostriphant, and of relays
 * with rules of their own (tests/unit/nostr/filter-refusal.test.ts lists them).
 */
export const FILTER_REFUSALS = ['filter_refused', 'too_many_values'] as const;
export type FilterRefusal = (typeof FILTER_REFUSALS)[number];

/** Values of a list in a filter. */
const VALUES =
  '(?:kinds?|authors?|ids?|pubkeys?|public keys?|tags?|values?|filters?|elements?|things)';
const LISTS = '(?:kinds|authors|ids|pubkeys|public keys|tags|tag values)';
const NAMED = '(?:kinds?|authors?|ids?|tags?)';

const TOO_MANY = [
  `\\btoo (?:many|much) (?:(?:distinct|different|event|tag|letter|generic|filter|p|e|#\\w) )?${VALUES}\\b`,
  `\\bfilters? (?:has|have|contains?|with|names?|lists?) too (?:many|much)\\b`,
  `\\b(?:max(?:imum)?|most)\\b.{0,20}\\b(?:${LISTS}|filters)\\b.{0,40}\\b(?:exceeded|reached|allowed|per|is)\\b`,
  `\\b${LISTS}\\b.{0,25}\\b(?:exceed\\w*|limit (?:is|of|exceeded|reached)|more than|greater than|at most|max(?:imum)?)\\b`,
  `\\b(?:more than|over|only|up to|at most|exceed\\w*) (?:max(?:imum)? (?:of )?)?\\d+ (?:\\w+ )?(?:${LISTS}|filters)\\b`,
  `\\b(?:invalid|wrong|bad|excessive) number of (?:${LISTS}|filters)\\b`,
  `\\b(?:${LISTS}|list of ${LISTS}) (?:(?:array|list|filter) )?(?:(?:is|are) )?too (?:long|large|many|big)\\b`,
  `\\b(?:max(?:imum)?|limit) (?:(?:of|is) )?\\d+ (?:\\w+ )?(?:${LISTS}|filters)\\b`,
  `\\b\\d+ (?:${LISTS}|filters) (?:max(?:imum)?|at most|allowed|per)\\b`,
  `\\b(?:kinds?|authors?|ids|tags?) limit\\b|\\b(?:fewer|less) ${LISTS}\\b`,
  `\\bnumber of (?:${LISTS}|filters)\\b.{0,30}\\b(?:must|exceed\\w*|too)\\b`,
  '\\b(?:exactly|only|just|max(?:imum)?|at most) (?:one|1|a single) (?:kind|filter)\\b',
];

const REFUSED = [
  // The filter names nothing.
  '\\b(?:empty|bare|unfiltered|unbounded|wildcard|catch-?all|unconstrained|unrestricted) (?:filters?|quer(?:y|ies)|reqs?|requests?)\\b',
  "\\bfilters? (?:is|are|(?:can ?not|can't|must not|may not|should not) be) empty\\b",
  `\\b(?:filters?|quer(?:y|ies)|reqs?|requests?|subscriptions?)\\b.{0,40}\\b(?:must|has to|have to|needs?|should|requires?|specify|without|lacks?|missing|with no|has no|have no)\\b.{0,50}\\b${NAMED}\\b`,
  `\\b(?:must|have to|has to|should|please|needs? to) (?:be )?(?:specify|name|include|provide|contain|set|give|add)\\b.{0,40}\\b${NAMED}\\b`,
  `\\b(?:add|supply|pass|use) (?:an? |some |any )?${NAMED}\\b`,
  `\\b${NAMED}(?:(?:,| or| and|/) *(?:an? )?(?:${NAMED}|pubkeys?))* (?:(?:is|are|field|list|filter) )*(?:required|missing|mandatory|must be (?:specified|set|given|provided|named|present|included))\\b`,
  `\\b(?:missing|specify|no) (?:an? |at least one |any |the )?${NAMED}\\b`,
  `\\bat least (?:one|1|an?) (?:of )?(?:the )?${NAMED}\\b`,
  `\\bwithout (?:an? |any )?${NAMED}\\b|\\b(?:kind|author)less\\b`,
  // It asks for too much at once.
  '\\b(?:wide|wide-open|broad|global|unscoped|firehose|unindexed) (?:filters?|quer(?:y|ies)|reqs?|requests?)\\b',
  '\\b(?:asking for|requesting|querying|fetching|dumping|quer(?:y|ies) for|requests? for) (?:all|everything|the whole)\\b',
  '\\b(?:filters?|quer(?:y|ies))\\b.{0,15}\\b(?:rejected|refused|denied|disallowed|forbidden|not (?:allowed|permitted|accepted|acceptable|served))\\b',
  '\\btoo (?:broad|wide|general|generic|vague|complex|unspecific)\\b',
  '\\bfilters? (?:is |are )?too (?:large|big|long)\\b',
  '\\b(?:not specific enough|more specific|narrow(?:er)? (?:down )?(?:the |your )?(?:filters?|quer(?:y|ies)|requests?))\\b',
  '\\bscrap(?:e|ers?|ing)\\b|\\bsync bots?\\b',
  // It names what the relay does not serve, beside what it may serve.
  '\\bkinds?\\b.{0,25}\\b(?:not|isn.t|aren.t) (?:allowed|permitted|supported|accepted|served)\\b',
  '\\b(?:unsupported|disallowed|forbidden|invalid) kinds?\\b|\\bcannot request both\\b',
];

/** Texts with these words refuse the client, whatever else they say about a filter. */
const ABOUT_CLIENT =
  /\bbann?(?:ed)?\b|\bpay(?:ment|ing)?\b|\bpaid\b|\bauth\w*\b(?<!\bauthors?)|white.?list|nip-?42/i;

const TOO_MANY_VALUES = new RegExp(TOO_MANY.join('|'), 'i');
const FILTER_REFUSED = new RegExp(REFUSED.join('|'), 'i');

/** Why a text refuses a filter; null when it is about something else. */
export function filterRefusalOf(text: string): FilterRefusal | null {
  if (ABOUT_CLIENT.test(text)) return null;
  if (TOO_MANY_VALUES.test(text)) return 'too_many_values';
  return FILTER_REFUSED.test(text) ? 'filter_refused' : null;
}

/** Whether this reason of `refusalOf` concerns the filter of the request. */
export function isFilterRefusal(reason: string | null): reason is FilterRefusal {
  return reason === 'filter_refused' || reason === 'too_many_values';
}
