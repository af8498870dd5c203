import type { ReqFilter } from './filter.ts';
import { plainText } from './message.ts';

/** The largest kind of NIP-01. */
const MAX_KIND = 65_535;
/** Longer values are not indexed, and no event would be found by them (events.tagvalues in init.sql). */
const MAX_TAG_BYTES = 255;
const HEX = /^[0-9a-f]{64}$/;
const TAG = /^#[A-Za-z]$/;

/**
 * Reads an untrusted value as a filter of NIP-01. Values of a list are unique in the result.
 *
 * @returns the filter, or the text of the refusal. Never throws.
 */
export function readReqFilter(value: unknown): ReqFilter | string {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return 'invalid: a filter is an object';
  const filter: [string, unknown][] = [];
  for (const [name, given] of Object.entries(value)) {
    const read = readElement(name, given);
    if (read.refusal !== undefined) return read.refusal;
    filter.push([name, read.value]);
  }
  return Object.fromEntries(filter) as ReqFilter;
}

type Read =
  | { readonly value: unknown; readonly refusal?: undefined }
  | { readonly refusal: string };

function readElement(name: string, given: unknown): Read {
  switch (name) {
    case 'ids':
    case 'authors':
      return readList(given, isHex, `invalid: ${name} must be 64 characters of lowercase hex each`);
    case 'kinds':
      return readList(given, isKind, `invalid: kinds must be whole numbers up to ${MAX_KIND}`);
    case 'since':
    case 'until':
    case 'limit':
      return isNatural(given)
        ? { value: given }
        : { refusal: `invalid: ${name} must be a whole number` };
    case 'search':
      return { refusal: 'unsupported: search (NIP-50)' };
    default:
      return TAG.test(name) ? readTagValues(name, given) : unknown(name);
  }
}

function readTagValues(name: string, given: unknown): Read {
  const read = readList(given, isText, `invalid: ${name} must be a list of strings`);
  if (read.refusal !== undefined) return read;
  const values = read.value as string[];
  if (values.some((text) => Buffer.byteLength(text) > MAX_TAG_BYTES))
    return { refusal: `unsupported: values of tags above ${MAX_TAG_BYTES} bytes are not indexed` };
  // The archive holds no event with such a value, and PostgreSQL could not read it.
  return { value: values.filter((text) => !text.includes('\0') && !/\p{Surrogate}/u.test(text)) };
}

function readList(given: unknown, isValue: (item: unknown) => boolean, refusal: string): Read {
  if (!Array.isArray(given) || !given.every(isValue)) return { refusal };
  return { value: [...new Set(given)] };
}

function unknown(name: string): Read {
  const shown = JSON.stringify(plainText(name).slice(0, 40));
  return { refusal: `unsupported: the filter has an unknown element ${shown}` };
}

const isHex = (item: unknown) => typeof item === 'string' && HEX.test(item);
const isText = (item: unknown) => typeof item === 'string';
const isNatural = (item: unknown): item is number =>
  Number.isSafeInteger(item) && Number(item) >= 0;
const isKind = (item: unknown) => isNatural(item) && item <= MAX_KIND;
