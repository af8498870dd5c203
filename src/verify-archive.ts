/**
 * Entry: `npm run verify` reads the archive back and checks every id and signature again, all of it or
 * `--sample N` events taken at random. Differences are named on standard output, and the exit code is 1 then.
 */
import { resolve } from 'node:path';
import { Bigbrotr, type StoredEvent } from './bigbrotr.ts';
import { ConfigError, loadDatabaseConfig, readEnvironment } from './config.ts';
import { DatabaseError } from './database.ts';
import { reachEmbeddedPostgres } from './local/running.ts';
import { createLogger } from './logger.ts';
import { parseEvent } from './nostr/event.ts';
import { createVerifier, type Verifier } from './nostr/verify.ts';

const PROGRESS_MS = 2000;
/** Differences named one by one; the rest is counted. */
const MAX_NAMED = 100;

process.exitCode = await main();

async function main(): Promise<number> {
  try {
    return await verifyArchive(parseSample(process.argv.slice(2)));
  } catch (error) {
    const expected = error instanceof ConfigError || error instanceof DatabaseError;
    const said = error instanceof Error ? (expected ? error.message : error.stack) : String(error);
    process.stderr.write(`${said}\n`);
    return 2;
  }
}

/** @returns how many events to take, null for all. @throws ConfigError */
function parseSample(given: readonly string[]): number | null {
  if (given.length === 0) return null;
  const count = Number(given[1]);
  if (given.length === 2 && given[0] === '--sample' && Number.isSafeInteger(count) && count > 0) {
    return count;
  }
  throw new ConfigError([
    `${given.join(' ')} is not understood: give nothing, or --sample and a number above 0.`,
  ]);
}

async function verifyArchive(sample: number | null): Promise<number> {
  const { env } = readEnvironment();
  const log = createLogger('verify', 'warn');
  const server = env.POSTGRES_HOST
    ? null
    : await reachEmbeddedPostgres(resolve(env.LOCAL_DATA_PATH || './data'), log);
  try {
    const { database } = loadDatabaseConfig({ ...env, ...server?.variables });
    const bigbrotr = await Bigbrotr.connect(database, log);
    try {
      return await check(bigbrotr, await createVerifier(), sample);
    } finally {
      await bigbrotr.close();
    }
  } finally {
    await server?.stop();
  }
}

async function check(
  bigbrotr: Bigbrotr,
  verifier: Verifier,
  sample: number | null,
): Promise<number> {
  const started = performance.now();
  let checked = 0;
  let different = 0;
  let told = started;
  const events = sample === null ? bigbrotr.storedEvents() : bigbrotr.sampledEvents(sample);
  for await (const chunk of events) {
    for (const stored of chunk) {
      checked += 1;
      const difference = differenceOf(stored, verifier);
      if (difference === null) continue;
      different += 1;
      if (different <= MAX_NAMED)
        process.stdout.write(`${stored.id}  ${stored.place}  ${difference}\n`);
    }
    if (performance.now() - told > PROGRESS_MS) {
      told = performance.now();
      process.stderr.write(`${progressOf(checked, different, started)}\n`);
    }
  }
  process.stdout.write(`${progressOf(checked, different, started)}\n`);
  return different === 0 ? 0 : 1;
}

/** What is wrong with an event as it was read back; null when it verifies. */
function differenceOf(stored: StoredEvent, verifier: Verifier): string | null {
  const parsed = parseEvent(stored.event);
  if (!parsed.ok) return parsed.reason;
  if (parsed.event.id !== stored.id) return 'stands under another id';
  return verifier.verify(parsed.event) ? null : 'bad_signature';
}

function progressOf(checked: number, different: number, started: number): string {
  const seconds = (performance.now() - started) / 1000;
  const rate = Math.round(checked / Math.max(seconds, 0.001));
  return `${checked} events read back, ${different} different, ${seconds.toFixed(1)} s, ${rate} events/s`;
}
