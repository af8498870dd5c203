import { z } from 'zod';
import { formats, MEDIA_TYPES } from './format.ts';
import { problemSchema } from './problem.ts';

/** What every answer has beside its data, and the parameters of every list. */

export const coverageSchema = z
  .object({
    relays: z.int().describe('Relays that were visited.'),
    complete: z.int().describe('Those of them of which nothing that has come is missing.'),
    share: z
      .number()
      .nullable()
      .describe('Mean share of the wanted time that is proven complete, 0 to 1; null: no visit.'),
  })
  .describe('How complete the data is that the answer rests on.');

export type Coverage = z.output<typeof coverageSchema>;

export const metaSchema = z.object({
  as_of: z.int().describe('The time of the data, Unix seconds.'),
  coverage: coverageSchema,
  partial: z
    .string()
    .optional()
    .describe('Present where the list was cut short for another reason than limit: which.'),
});

export type Meta = z.output<typeof metaSchema>;

/** An answer with one thing. */
export function oneOf<Data extends z.ZodType>(data: Data) {
  return z.object({ data, meta: metaSchema });
}

/** An answer with a page of a list. */
export function pageOf<Row extends z.ZodType>(row: Row) {
  return z.object({
    data: z.array(row),
    next_cursor: z.string().nullable().describe('The cursor of the next page; null: no more.'),
    meta: metaSchema,
  });
}

export const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 100;

/** A whole number, in decimal digits. */
export const wholeNumber = (min: number, max: number) =>
  z.preprocess(
    (value) => (typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value),
    z.int(`must be a whole number from ${min} to ${max}`).min(min).max(max),
  );

/** A flag: `true` or `false`. */
export const flag = z.preprocess(
  (value) => (value === 'true' ? true : value === 'false' ? false : value),
  z.boolean('must be true or false'),
);

/** Parameters of every list. */
export const listQuery = z.strictObject({
  limit: wholeNumber(1, MAX_LIMIT)
    .optional()
    .describe(
      `Rows of a JSON page (default ${DEFAULT_LIMIT}). Of NDJSON and CSV: rows in all; without it, everything is streamed.`,
    ),
  cursor: z.string().min(1).max(2000).optional().describe('The next_cursor of the page before.'),
  format: z.enum(formats).optional().describe('Instead of the header Accept.'),
});

export function pageLimit(limit: number | undefined): number {
  return limit ?? DEFAULT_LIMIT;
}

const failed = (description: string) => ({
  description,
  content: { 'application/problem+json': { schema: problemSchema } },
});

/** The errors that any route may answer with. */
export const problemResponses = {
  400: failed('A parameter is not valid: the answer names it.'),
  404: failed('There is nothing under this id, URL or path.'),
  429: failed('Too many requests: Retry-After says when to go on.'),
  500: failed('A mistake of ours.'),
  503: failed('It takes too long, or the database is away: the answer says what to narrow.'),
};

/** The responses of a route that answers with one thing. */
export function responsesOf(schema: z.ZodType) {
  return {
    200: { description: 'The answer.', content: { [MEDIA_TYPES.json]: { schema } } },
    ...problemResponses,
  };
}

/** The responses of a list. */
export function listResponsesOf(row: z.ZodType) {
  return {
    200: {
      description: 'A page as JSON, or all rows one a line (NDJSON), or as CSV.',
      content: {
        [MEDIA_TYPES.json]: { schema: pageOf(row) },
        [MEDIA_TYPES.ndjson]: { schema: row },
        [MEDIA_TYPES.csv]: { schema: z.string() },
      },
    },
    ...problemResponses,
    406: failed('Accept allows none of the formats.'),
  };
}
