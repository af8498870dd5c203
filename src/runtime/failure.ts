import { ConfigError } from '../config/load.ts';
import { DatabaseError } from '../database/connection.ts';
import { BlocklistError } from '../network/blocklist.ts';
import { SeedListError } from '../network/seed-list.ts';
import { ListenError } from '../telemetry/health.ts';

/** A command failed. The message says why and what to do. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

/** Whether the message of an error is enough for the operator: no stack trace is shown with it. */
export function isExpected(error: unknown): boolean {
  return [
    CommandError,
    ConfigError,
    DatabaseError,
    BlocklistError,
    SeedListError,
    ListenError,
  ].some((type) => error instanceof type);
}

/** Whether an error of the database may end by itself. */
export function isTransientFailure(error: unknown): error is DatabaseError {
  return error instanceof DatabaseError && !error.permanent;
}

/** Whether something ended because its signal aborted. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}
