import { z } from 'zod';
import { MAX_CREATED_AT } from '../../nostr/event.ts';
import type { ArchiveFilter } from '../query/event-query.ts';
import { wholeNumber } from './answer.ts';
import { authorKey, eventId } from './identifiers.ts';

/** A NIP-01 filter as parameters of a URL. */

const MAX_VALUES = 100;
/** Longer values are not indexed, and no event would be found by them (events.tagvalues in init.sql). */
const MAX_TAG_BYTES = 255;
const LETTERS = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'];

/** Values separated by commas, in one or several parameters of the name. */
const separated = <Item extends z.ZodType>(item: Item) =>
  z.preprocess(
    (value) => [value].flat().flatMap((text) => String(text).split(',').filter(Boolean)),
    z.array(item).min(1, 'must have a value').max(MAX_VALUES),
  );

/** Values that may hold commas: one in each parameter of the name. */
const repeated = z.preprocess(
  (value) => [value].flat(),
  z
    .array(
      z
        .string()
        .refine(
          (text) => Buffer.byteLength(text) <= MAX_TAG_BYTES && !text.includes('\0'),
          `must have at most ${MAX_TAG_BYTES} bytes and no NUL`,
        ),
    )
    .max(MAX_VALUES),
);

const tagParameters = Object.fromEntries(
  LETTERS.map((letter) => [
    `tag.${letter}`,
    repeated.optional().describe(`Events with a tag ${letter} of this value, or one of these.`),
  ]),
) as Record<`tag.${string}`, z.ZodOptional<typeof repeated>>;

/** Kinds, in one or several parameters of the name. */
export const kindList = separated(wholeNumber(0, 65_535)).describe('Kinds.');

export const filterQuery = z.object({
  ids: separated(eventId).optional().describe('Ids, in hex or Bech32.'),
  authors: separated(authorKey).optional().describe('Public keys, in hex or Bech32.'),
  kinds: kindList.optional(),
  since: wholeNumber(0, MAX_CREATED_AT).optional().describe('created_at from here, Unix seconds.'),
  until: wholeNumber(0, MAX_CREATED_AT).optional().describe('created_at up to here.'),
  ...tagParameters,
});

/** The filter that parameters describe. */
export function filterOf(query: z.output<typeof filterQuery>): ArchiveFilter {
  const { ids, authors, kinds, since, until } = query;
  const given = query as Readonly<Record<string, unknown>>;
  const tags = LETTERS.flatMap((letter) => {
    const values = given[`tag.${letter}`];
    return values ? [[`#${letter}`, values]] : [];
  });
  return {
    ...Object.fromEntries(tags),
    ...(ids && { ids }),
    ...(authors && { authors }),
    ...(kinds && { kinds }),
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until }),
  };
}
