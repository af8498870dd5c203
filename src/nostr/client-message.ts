import type { ReqFilter } from './filter.ts';
import { plainText } from './message.ts';
import { readReqFilter } from './req-filter.ts';

/** A message of a client (NIP-01, NIP-42, NIP-45, NIP-77), parsed and checked. */
export type ClientMessage =
  | {
      readonly type: 'REQ' | 'COUNT';
      readonly subscription: string;
      readonly filters: readonly ReqFilter[];
    }
  | { readonly type: 'CLOSE' | 'NEG-CLOSE'; readonly subscription: string }
  /** `id` is null where the event has no id to answer to. */
  | { readonly type: 'EVENT'; readonly id: string | null }
  | { readonly type: 'AUTH'; readonly event: unknown }
  | {
      readonly type: 'NEG-OPEN';
      readonly subscription: string;
      readonly filter: ReqFilter;
      readonly payload: string;
    }
  | { readonly type: 'NEG-MSG'; readonly subscription: string; readonly payload: string }
  /** What cannot be answered as it is, with the text of the refusal. */
  | {
      readonly type: 'INVALID';
      readonly verb: Verb | null;
      /** Null where it names none that could be answered. */
      readonly subscription: string | null;
      readonly text: string;
    };

const VERBS = [
  ...['REQ', 'COUNT', 'CLOSE', 'EVENT', 'AUTH'],
  ...['NEG-OPEN', 'NEG-MSG', 'NEG-CLOSE'],
] as const;
type Verb = 'REQ' | 'COUNT' | 'CLOSE' | 'EVENT' | 'AUTH' | 'NEG-OPEN' | 'NEG-MSG' | 'NEG-CLOSE';

/** Longest subscription id, in characters (NIP-01). */
export const MAX_SUBSCRIPTION_LENGTH = 64;

export interface RequestLimits {
  /** Filters in one request. */
  readonly maxFilters: number;
  /** Values in all lists of one request together. */
  readonly maxValues: number;
}

/** Parses one text frame of a client. Never throws. */
export function parseClientMessage(data: string, limits: RequestLimits): ClientMessage {
  let message: unknown;
  try {
    message = JSON.parse(data);
  } catch {
    return invalid(null, null, 'invalid: the message is not JSON');
  }
  if (!Array.isArray(message)) return invalid(null, null, 'invalid: the message is not an array');
  const verb = VERBS.find((known) => known === message[0]) as Verb | undefined;
  if (verb === undefined) {
    const named = typeof message[0] === 'string' ? plainText(message[0]).slice(0, 20) : '';
    return invalid(null, null, `unsupported: there is no message ${JSON.stringify(named)}`);
  }
  if (verb === 'EVENT') return { type: verb, id: idOf(message[1]) };
  if (verb === 'AUTH') return { type: verb, event: message[1] };
  return parseRequest(verb, message, limits);
}

function parseRequest(
  verb: Exclude<Verb, 'EVENT' | 'AUTH'>,
  message: readonly unknown[],
  limits: RequestLimits,
): ClientMessage {
  const [, subscription, ...rest] = message;
  if (!isSubscription(subscription))
    return invalid(
      verb,
      null,
      `invalid: a subscription id has 1 to ${MAX_SUBSCRIPTION_LENGTH} characters`,
    );
  const refuse = (text: string) => invalid(verb, subscription, text);
  switch (verb) {
    case 'CLOSE':
    case 'NEG-CLOSE':
      return { type: verb, subscription };
    case 'NEG-MSG':
      return typeof rest[0] === 'string'
        ? { type: verb, subscription, payload: rest[0] }
        : refuse('invalid: NEG-MSG needs a message in hex');
    case 'NEG-OPEN': {
      const [value, payload] = rest;
      if (typeof payload !== 'string')
        return refuse('invalid: NEG-OPEN needs a filter and a message in hex');
      const filters = readFilters([value], limits);
      if (typeof filters === 'string') return refuse(filters);
      return { type: verb, subscription, filter: filters[0] ?? {}, payload };
    }
    default: {
      const filters = readFilters(rest, limits);
      return typeof filters === 'string' ? refuse(filters) : { type: verb, subscription, filters };
    }
  }
}

/** @returns the filters, or the text of the refusal */
function readFilters(
  values: readonly unknown[],
  { maxFilters, maxValues }: RequestLimits,
): ReqFilter[] | string {
  if (values.length === 0) return 'invalid: the request has no filter';
  if (values.length > maxFilters) return `blocked: at most ${maxFilters} filters in one request`;
  const filters: ReqFilter[] = [];
  let left = maxValues;
  for (const value of values) {
    const filter = readReqFilter(value);
    if (typeof filter === 'string') return filter;
    for (const list of Object.values(filter)) left -= Array.isArray(list) ? list.length : 0;
    if (left < 0) return `blocked: at most ${maxValues} values in the lists of one request`;
    filters.push(filter);
  }
  return filters;
}

function invalid(verb: Verb | null, subscription: string | null, text: string): ClientMessage {
  return { type: 'INVALID', verb, subscription, text };
}

function isSubscription(value: unknown): value is string {
  // In UTF-16 units, of which a character has one or two.
  if (typeof value !== 'string' || value === '') return false;
  if (value.length > 2 * MAX_SUBSCRIPTION_LENGTH) return false;
  return [...value].length <= MAX_SUBSCRIPTION_LENGTH;
}

function idOf(event: unknown): string | null {
  if (typeof event !== 'object' || event === null || !('id' in event)) return null;
  const { id } = event;
  return typeof id === 'string' && /^[0-9a-f]{64}$/.test(id) ? id : null;
}
