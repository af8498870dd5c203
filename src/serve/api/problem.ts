import { z } from 'zod';

/** Errors as problem details (RFC 9457): one sentence, the parameter in question, no SQL and no stack. */

const PROBLEMS = {
  'invalid-request': { status: 400, title: 'The request is not valid' },
  'not-found': { status: 404, title: 'There is nothing here' },
  'not-acceptable': { status: 406, title: 'There is no answer in this format' },
  'cursor-expired': { status: 410, title: 'The cursor is older than what is kept' },
  'uri-too-long': { status: 414, title: 'The URL is too long' },
  'too-many-requests': { status: 429, title: 'Too many requests' },
  internal: { status: 500, title: 'The answer could not be made' },
  'took-too-long': { status: 503, title: 'The answer takes too long' },
  'too-many-streams': { status: 503, title: 'Too many answers are being streamed' },
  unavailable: { status: 503, title: 'The archive cannot be read now' },
} as const;

export type ProblemKind = keyof typeof PROBLEMS;
export const problemKinds = Object.keys(PROBLEMS) as ProblemKind[];

export const problemSchema = z
  .object({
    type: z.string().describe('A reference to what this kind of problem means.'),
    title: z.string(),
    status: z.int(),
    detail: z.string().describe('What is wrong and what to do, one sentence.'),
    parameter: z.string().optional().describe('The parameter that it is about.'),
  })
  .describe('Problem details (RFC 9457).');

export const PROBLEM_TYPE = 'application/problem+json';

/** An answer that is an error. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly kind: ProblemKind;
  readonly parameter: string | undefined;
  /** Seconds after which the client may try again. */
  readonly retryAfter: number | undefined;

  constructor(
    kind: ProblemKind,
    detail: string,
    { parameter, retryAfter }: { parameter?: string; retryAfter?: number } = {},
  ) {
    super(detail);
    this.kind = kind;
    this.parameter = parameter;
    this.retryAfter = retryAfter;
  }

  get status(): number {
    return PROBLEMS[this.kind].status;
  }

  /** The body of the answer. */
  details(): z.output<typeof problemSchema> {
    const { status, title } = PROBLEMS[this.kind];
    const { kind, message: detail, parameter } = this;
    return { type: `/docs#${kind}`, title, status, detail, ...(parameter && { parameter }) };
  }
}

export function titleOf(kind: ProblemKind): { status: number; title: string } {
  return PROBLEMS[kind];
}
