/** What a relay sends, parsed once (NIP-01, NIP-42, NIP-67, NIP-77). Anything else is `INVALID` with its reason. */
export type RelayMessage =
  | { type: 'EVENT'; subscription: string; event: unknown }
  | { type: 'EOSE'; subscription: string; hint: EoseHint | null }
  | { type: 'CLOSED'; subscription: string; text: string }
  | { type: 'NOTICE'; text: string }
  | { type: 'OK'; id: string; accepted: boolean; text: string }
  | { type: 'AUTH'; challenge: string }
  | { type: 'NEG-MSG'; subscription: string; payload: string }
  | { type: 'NEG-ERR'; subscription: string; text: string }
  | { type: 'INVALID'; reason: 'not_json' | 'not_a_message' };

/** What NIP-67 lets a relay add to EOSE: everything was sent, or there is more. */
export type EoseHint = 'finish' | 'more';

const NOT_A_MESSAGE = { type: 'INVALID', reason: 'not_a_message' } as const;

/**
 * Parses one text frame of a relay.
 *
 * @returns the message; never throws. JSON too deep for the parser is `not_json`.
 */
export function parseRelayMessage(data: string): RelayMessage {
  let message: unknown;
  try {
    message = JSON.parse(data);
  } catch {
    return { type: 'INVALID', reason: 'not_json' };
  }
  return Array.isArray(message) ? parseMessageArray(message) : NOT_A_MESSAGE;
}

function parseMessageArray(message: unknown[]): RelayMessage {
  const [type, first, second, third] = message;
  if (typeof first !== 'string') return NOT_A_MESSAGE;
  switch (type) {
    case 'EVENT':
      return { type, subscription: first, event: second };
    case 'EOSE':
      return { type, subscription: first, hint: eoseHint(second) };
    case 'CLOSED':
    case 'NEG-ERR':
      return { type, subscription: first, text: asText(second) };
    case 'NEG-MSG':
      if (typeof second !== 'string') return NOT_A_MESSAGE;
      return { type, subscription: first, payload: second };
    case 'OK':
      return { type, id: first, accepted: second === true, text: asText(third) };
    case 'NOTICE':
      return { type, text: asText(first) };
    case 'AUTH':
      return { type, challenge: first };
    default:
      return NOT_A_MESSAGE;
  }
}

/** NIP-67 sends an array of hints; its first drafts sent the bare word. Contradicting hints count as none. */
function eoseHint(value: unknown): EoseHint | null {
  const hints = Array.isArray(value) ? value : [value];
  const finish = hints.includes('finish');
  const more = hints.includes('more');
  if (finish === more) return null;
  return finish ? 'finish' : 'more';
}

const MAX_TEXT_LENGTH = 500;

/** Text meant for people, cut to 500 characters: it goes into logs and rows, and the relay chooses its length. */
function asText(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, MAX_TEXT_LENGTH) : '';
}

/** Why a relay refuses: the machine-readable prefixes of NIP-01 and NIP-42, and what relays say in free text. */
export type Refusal =
  | 'rate_limited'
  | 'auth_required'
  | 'restricted'
  | 'blocked'
  | 'limit'
  | 'other';

const REFUSALS: [Refusal, RegExp][] = [
  ['rate_limited', /^rate-limited:|rate.?limit|too (many|fast)|slow down|concurrent|quota/i],
  [
    'auth_required',
    /^auth-required:|\bauth(enticate|entication|orization)?\b.*\brequired\b|^we can't serve/i,
  ],
  [
    'restricted',
    /^restricted:|payment|paid|not (allowed|whitelisted)|members? only|subscription required/i,
  ],
  ['blocked', /^blocked:|\bbanned?\b|forbidden/i],
  [
    'limit',
    /\blimit\b.*(above|exceed|greater|large|too|max|must|at most|over)|max(imum)?[ _]limit|exceeds? .*limit/i,
  ],
];

/** Names the refusal in the text of a CLOSED, NOTICE or NEG-ERR. NOTICE carries no subscription id, so its text is all there is. */
export function refusalOf(text: string): Refusal {
  return REFUSALS.find(([, pattern]) => pattern.test(text))?.[0] ?? 'other';
}
