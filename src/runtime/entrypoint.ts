/** What an entrypoint does with its process: arguments, signals, parent process and exit code. */
import { ConfigError } from '../config/load.ts';
import { isExpected } from './failure.ts';
import type { ServiceOptions, StatusReport } from './service.ts';
import type { ServiceLife } from './service-life.ts';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;
/** The process exits this long before the shutdown timeout, in milliseconds, so that the log says why. */
const FORCED_EXIT_AHEAD_MS = 1000;
const MIN_FORCED_EXIT_MS = 500;

/**
 * Runs a service until it ends, and sets the exit code. SIGTERM and SIGINT stop it: what is under way is stored, and the
 * exit code is 0. With `--once` it does what is due at its start and exits, with 1 when that failed.
 *
 * @param create reads the configuration and creates the service; a ConfigError is printed, and the exit code is 1
 * @param flags further arguments that this service takes
 */
export async function runService(
  create: (options: ServiceOptions) => ServiceLife,
  flags: readonly string[] = [],
): Promise<void> {
  const service = createPrinted(create, flags);
  if (!service) return;
  for (const signal of SIGNALS) process.on(signal, () => void service.stop(signal));
  // A parent that was killed cannot stop us: without this the service would go on and keep its port.
  process.once('disconnect', () => void service.stop('disconnect'));
  service.signal.addEventListener('abort', () => limitShutdown(service), { once: true });
  await service.start();
  process.exitCode = await service.ended;
  if (process.connected) process.disconnect();
}

function createPrinted(
  create: (options: ServiceOptions) => ServiceLife,
  known: readonly string[],
): ServiceLife | null {
  try {
    const args = process.argv.slice(2);
    const flags = args.filter((argument) => known.includes(argument));
    const once = parseOnce(args, known);
    return create({ once, flags, onStatus: sendToParent, parentWatchesDisk: process.connected });
  } catch (error) {
    process.exitCode = 1;
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return null;
  }
}

/** The parent may have ended: that is handled by the event 'disconnect', not here. */
function sendToParent(report: StatusReport): void {
  if (process.connected) process.send?.(report, undefined, undefined, () => {});
}

/** Exits the process shortly before the shutdown timeout, whatever still runs. */
function limitShutdown(service: ServiceLife): void {
  const exit = () => {
    service.log.warn(
      'the shutdown timed out: what was not stored is not covered, and is read again next time',
    );
    process.exit(service.exitCode);
  };
  const ms = Math.max(MIN_FORCED_EXIT_MS, service.shutdownTimeoutMs - FORCED_EXIT_AHEAD_MS);
  setTimeout(exit, ms).unref();
}

/**
 * Runs a command, and sets the exit code to what it returns. An expected error is printed as its message, any other one
 * with its stack trace.
 *
 * @param failureCode the exit code after an error
 */
export async function runCommand(
  work: (args: readonly string[]) => Promise<number>,
  failureCode = 1,
): Promise<void> {
  try {
    process.exitCode = await work(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${textOf(error)}\n`);
    process.exitCode = failureCode;
  }
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return isExpected(error) ? error.message : (error.stack ?? error.message);
}

/** Aborts when the process receives SIGTERM or SIGINT, instead of ending it. */
export function abortOnSignals(): AbortController {
  const stopping = new AbortController();
  for (const signal of SIGNALS) process.on(signal, () => stopping.abort());
  return stopping;
}

/**
 * @param flags other arguments that may be given
 * @returns whether `--once` was given. @throws ConfigError for anything else.
 */
export function parseOnce(args: readonly string[], flags: readonly string[] = []): boolean {
  const known = ['--once', ...flags];
  const unknown = args.filter((argument) => !known.includes(argument));
  const which =
    known.length > 1 ? `the only ones are ${known.join(' and ')}` : `the only one is --once`;
  if (unknown.length > 0)
    throw new ConfigError([`unknown argument ${unknown.join(' ')}: ${which}`]);
  return args.includes('--once');
}
