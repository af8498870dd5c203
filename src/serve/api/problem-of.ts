import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { Problem } from './problem.ts';

interface Issue {
  readonly instancePath?: string;
  readonly message?: string;
  readonly params?: { readonly keys?: readonly string[] };
}

const MAX_MESSAGE_LENGTH = 200;

/** Any error as a problem. Only what the client can mend is told; the rest goes to `onError`. */
export function problemOf(error: unknown, onError: (error: unknown) => void): Problem {
  if (error instanceof Problem) return error;
  if (hasZodFastifySchemaValidationErrors(error)) return invalid(error.validation as Issue[]);
  const code = statusOf(error);
  if (code === 414)
    return new Problem('uri-too-long', 'A part of the path is too long for an id or a URL.');
  if (code !== null && code < 500)
    return new Problem(
      'invalid-request',
      'The URL or the request is malformed: percent-encode what is no plain character.',
    );
  onError(error);
  return new Problem('internal', 'This is a mistake of ours: the log of the service has it.');
}

/** The first thing that is wrong with the parameters. */
function invalid(issues: readonly Issue[]): Problem {
  const [first] = issues;
  const unknown = first?.params?.keys?.[0];
  if (unknown !== undefined)
    return new Problem('invalid-request', 'There is no such parameter here: /docs has them all.', {
      parameter: unknown.slice(0, MAX_MESSAGE_LENGTH),
    });
  const parameter = first?.instancePath?.split('/')[1] ?? '';
  const what = first?.message?.slice(0, MAX_MESSAGE_LENGTH) ?? 'not valid';
  return new Problem('invalid-request', `${parameter}: ${what}.`, { parameter });
}

function statusOf(error: unknown): number | null {
  const code = error instanceof Error && 'statusCode' in error ? error.statusCode : null;
  return typeof code === 'number' && code >= 400 ? code : null;
}
