import { createRequire } from 'node:module';
import { isatty } from 'node:tty';
import { type DestinationStream, destination, type Logger, type LoggerOptions, pino } from 'pino';
import type { prettyFactory } from 'pino-pretty';

export type { DestinationStream, Logger };

const STDOUT = 1;

/** For what is loaded only where it is used: each thread loads its own modules, and `pino-pretty` is for terminals. */
const load = createRequire(import.meta.url);

/** Names of fields whose values are never shown, up to four levels deep. */
const secretFields = [
  'password',
  'secretKey',
  'SECRET_KEY',
  'POSTGRES_PASSWORD',
  'POSTGRES_ADMIN_PASSWORD',
  'POSTGRES_READER_PASSWORD',
  'POSTGRES_OWNER_PASSWORD',
  'API_DB_PASSWORD',
  'PGBOUNCER_ADMIN_PASSWORD',
  'PGADMIN_DEFAULT_PASSWORD',
];
const redactedPaths = ['', '*.', '*.*.', '*.*.*.'].flatMap((depth) =>
  secretFields.map((field) => `${depth}${field}`),
);

/**
 * The log of a service: one JSON object a line with `level` (`ERROR`), `time` (ISO 8601), `service`, `msg`, or readable lines
 * where standard output is a terminal. Written synchronously, so that nothing is lost when the process ends.
 */
export function createLogger(service: string, level: string, stream?: DestinationStream): Logger {
  return pino(optionsFor({ service }, level), stream ?? standardOutput());
}

/** The log of a worker thread, which writes to standard output directly. Adds `thread`. */
export function createWorkerLogger(
  service: string,
  level: string,
  threadName: string,
  stream?: DestinationStream,
): Logger {
  return pino(optionsFor({ service, thread: threadName }, level), stream ?? standardOutput());
}

function optionsFor(base: Record<string, string>, level: string): LoggerOptions {
  return {
    level,
    base,
    timestamp: pino.stdTimeFunctions.isoTime,
    // In capitals, as PostgreSQL writes them: `docker compose logs synchronizer | grep ERROR`.
    formatters: { level: (label) => ({ level: label.toUpperCase() }) },
    serializers: { err: serializeError, error: serializeError },
    redact: { paths: redactedPaths, censor: '[hidden]' },
  };
}

/** `process.stdout.isTTY` is absent in worker threads: the descriptor is tested instead. */
function standardOutput(): DestinationStream {
  const plain = destination({ dest: STDOUT, sync: true });
  return isatty(STDOUT) ? prettyStream(plain) : plain;
}

/** Formats JSON lines for reading at a terminal; control characters in relays' texts become visible. */
export function prettyStream(out: DestinationStream, colorize = true): DestinationStream {
  const pretty: { prettyFactory: typeof prettyFactory } = load('pino-pretty');
  const print = pretty.prettyFactory({
    colorize,
    translateTime: 'SYS:HH:MM:ss',
    ignore: 'service,thread',
    messageFormat: '{service}{if thread}/{thread}{end}: {msg}',
    singleLine: true,
  });
  return { write: (line: string) => void out.write(print(visible(line))) };
}

/**
 * JSON writes control characters as \u001b; as \u241b the terminal shows a symbol for them. So a relay's NOTICE cannot
 * move the cursor or set colours.
 */
function visible(line: string): string {
  return line.replace(/\\u00([01][0-9a-f])/g, '\\u24$1').replace(/[\x7f-\x9f]/g, '\ufffd');
}

/** An error as plain data: message, code, stack and causes, and no other field. */
function serializeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return error;
  const { code, reason } = error as { code?: unknown; reason?: unknown };
  return {
    type: error.name,
    message: error.message,
    ...(isLabel(code) && { code }),
    ...(isLabel(reason) && { reason }),
    stack: error.stack,
    ...(error.cause !== undefined &&
      depth < 3 && { cause: serializeError(error.cause, depth + 1) }),
    ...(error instanceof AggregateError &&
      depth < 3 && {
        errors: error.errors.slice(0, 10).map((one) => serializeError(one, depth + 1)),
      }),
  };
}

function isLabel(value: unknown): value is string | number {
  return typeof value === 'string' || typeof value === 'number';
}
