import { type Environment, loadLocalDataPath, loadServiceAddresses } from '../config/load.ts';
import { readStatus } from '../runtime/archive-status.ts';
import { CommandError } from '../runtime/failure.ts';
import { QUICK_PATIENCE, readArchive } from './read-archive.ts';
import { jsonOf, screenOf } from './screen.ts';

const USAGE =
  'npm run status (--json: for programs; host:port of each service whose /health is elsewhere)';

interface StatusArguments {
  readonly json: boolean;
  /** `host:port` of services; empty: those of this machine's settings. */
  readonly services: readonly string[];
}

/** @throws CommandError */
export function parseStatusArguments(args: readonly string[]): StatusArguments {
  const services = args.filter((argument) => argument !== '--json');
  const wrong = services.find((text) => !/^[^\s/-][^\s/]*:\d{1,5}$/.test(text));
  if (wrong !== undefined)
    throw new CommandError(`${JSON.stringify(wrong)} is not understood: ${USAGE}.`);
  return { json: args.includes('--json'), services };
}

/**
 * Prints how the archive stands, what the services do now, and how much room is left.
 *
 * @returns the exit code, 0
 * @throws CommandError, ConfigError, DatabaseError
 */
export async function printArchiveStatus(
  env: Environment,
  args: readonly string[],
  print: (text: string) => void,
): Promise<number> {
  const { json, services } = parseStatusArguments(args);
  const sources = {
    services: services.length > 0 ? services : loadServiceAddresses(env),
    dataPath: diskPathOf(env),
  };
  const { problems, rows } = await readArchive(
    env,
    (archive) => readStatus({ archive, ...sources }),
    { patience: QUICK_PATIENCE },
  );
  print(json ? jsonOf({ works: problems.length === 0, rows }) : screenOf(rows));
  return 0;
}

/** A path on the disk of the database; null where this machine does not have it. */
function diskPathOf(env: Environment): string | null {
  if (env.DATABASE_DISK_PATH) return env.DATABASE_DISK_PATH;
  return env.POSTGRES_HOST ? null : loadLocalDataPath(env);
}
