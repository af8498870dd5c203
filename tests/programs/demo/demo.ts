/**
 * `npm run demo`: the whole archive on one machine, without internet. It starts relays of different kinds, lets
 * `node dist/local.js --once` archive them, holds the archive against what the relays serve, and asks it questions.
 * Exits 0 only when every number is right. `--quick` leaves out the relay that may have to be compiled first.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../../src/local/postgres.ts';
import type { LogLine } from '../../processes/programs.ts';
import { Stack } from '../../processes/stack.ts';
import { ensureForeignRelay, isForeignRelayInstalled } from '../../relay/foreign-relay.ts';
import { type Check, checkArchive } from './checks.ts';
import { EXAMPLE_QUERIES } from './queries.ts';
import { type DemoRelay, startRelays } from './relays.ts';
import { type Row, table } from './table.ts';

/** What is to be undone at the end, the latest first. */
const undo: (() => Promise<unknown>)[] = [];

/** Aborted by Ctrl-C; its reason is then the exit code. */
const stopping = new AbortController();
/** Three are needed: the last one is to find nothing. */
const MAX_ROUNDS = 5;
process.once('SIGINT', () => stopping.abort(130));
process.once('SIGTERM', () => stopping.abort(143));

process.exit(await main());

async function main(): Promise<number> {
  try {
    return await demo();
  } catch (error) {
    if (stopping.signal.aborted) {
      say('\nStopped before its end.');
      return stopping.signal.reason;
    }
    process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
    return 1;
  } finally {
    for (const step of undo.reverse()) await step().catch(() => {});
  }
}

async function demo(): Promise<number> {
  const { signal } = stopping;
  heading('Relays on this machine');
  const foreign = await prepareForeignRelay();
  const started = performance.now();
  const relays = await openRelays(foreign);
  signal.throwIfAborted();
  const { stack, log } = await grow(relays);
  signal.throwIfAborted();
  const database = await openArchive(stack);
  signal.throwIfAborted();
  const right = await compare(relays, database, log);
  await askQuestions(database);
  signal.throwIfAborted();
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  say(`\n${right ? 'Everything is as it should be' : 'Something is WRONG'}, in ${seconds} s.`);
  if (right) say('The same with real relays: npm start');
  return right ? 0 : 1;
}

async function openRelays(foreign: boolean): Promise<DemoRelay[]> {
  const relays = await startRelays({ foreign });
  undo.push(() => Promise.all(relays.map((relay) => relay.stop())));
  const rows: Row[] = [];
  for (const { name, url, character, genuineIds, forged } of relays) {
    const fakes = Object.values(forged).reduce((sum, count) => sum + count, 0);
    rows.push({ relay: name, url, genuine: (await genuineIds()).length, forged: fakes, character });
  }
  say(table(rows));
  return relays;
}

/** @returns whether it can be started. */
async function prepareForeignRelay(): Promise<boolean> {
  if (process.argv.includes('--quick')) {
    say('Left out by --quick: @nostr-relay/core, a relay that nobody here wrote.\n');
    return false;
  }
  if (isForeignRelayInstalled()) return true;
  say('Installing @nostr-relay/core, a relay that nobody here wrote. Its SQLite may have to be');
  say('compiled, which takes about a minute, once. (--quick goes without it.)\n');
  try {
    const aborted = once(stopping.signal, 'abort').then(() => stopping.signal.throwIfAborted());
    await Promise.race([ensureForeignRelay(), aborted]);
    return true;
  } catch (error) {
    stopping.signal.throwIfAborted();
    const [reason = ''] = String(error instanceof Error ? error.message : error).split('\n');
    say(`Left out, since ${reason}\n`);
    return false;
  }
}

/** Rounds of the archive until one finds no further relay. It is told of the first one alone. */
async function grow(relays: readonly DemoRelay[]): Promise<{ stack: Stack; log: LogLine[] }> {
  const stack = await Stack.create();
  undo.push(() => stack.remove());
  const [seed = ''] = relays.map(({ url }) => url);
  await stack.relays([seed], [seed]);
  const log: LogLine[] = [];
  for (let round = 1; ; round += 1) {
    const lines = await archive(stack, relays, round);
    log.push(...lines);
    const found = lines.filter(({ msg }) => msg === 'relay found').map(({ relay }) => relay);
    const names = relays.filter(({ url }) => found.includes(url)).map(({ name }) => name);
    say(`The finder has found: ${names.join(', ') || 'no further relay'}.\n`);
    if (found.length === 0) return { stack, log };
    if (round === MAX_ROUNDS) throw new Error(`after ${round} rounds there are still new relays`);
  }
}

async function archive(
  stack: Stack,
  relays: readonly DemoRelay[],
  round: number,
): Promise<LogLine[]> {
  heading(`Round ${round} of the archive: node dist/local.js --once`);
  if (round === 1) {
    say(`Its list of relays holds one: "${relays[0]?.name}". PostgreSQL is made and started, then`);
    say(
      'initializer, monitor, both synchronizers, finder and refresher. Each round: a quarter of a minute.\n',
    );
  }
  const program = stack.start('local', ['--once']);
  stopping.signal.addEventListener('abort', () => program.signal('SIGTERM'));
  const { code } = await program.ended;
  stopping.signal.throwIfAborted();
  if (code !== 0) throw new Error(`it ended with ${code}:\n${program.said}`);
  tellVisits(relays, program.log);
  const summary = program.out.filter((line) => !line.startsWith('{') && !line.startsWith('psql'));
  say(`The summary that it ends with:\n\n  ${summary.join('\n  ').trim()}\n`);
  return program.log;
}

function tellVisits(relays: readonly DemoRelay[], log: readonly LogLine[]): void {
  const visits = log.filter(({ msg }) => msg === 'relay visited');
  const rows = visits.map(({ relay, outcome, pages, events, sightings, service }) => ({
    visited: relays.find(({ url }) => url === relay)?.name,
    by: service,
    outcome,
    pages,
    'new events': events,
    'new sightings': sightings,
  }));
  say(table(rows));
}

/** Its own PostgreSQL ended with the round; what it archived is on disk, so the server is started again. */
async function openArchive(stack: Stack): Promise<pg.Client> {
  const quiet = () => {};
  const server = await startEmbeddedPostgres({
    dataDir: join(stack.folder, 'data', 'postgres'),
    log: { debug: quiet, info: quiet, warn: quiet, error: console.error },
  });
  undo.push(() => server.stop());
  pg.types.setTypeParser(pg.types.builtins.INT8, Number);
  pg.types.setTypeParser(pg.types.builtins.NUMERIC, Number);
  for (const type of [pg.types.builtins.DATE, pg.types.builtins.TIMESTAMP])
    pg.types.setTypeParser(type, String);
  const database = new pg.Client({ connectionString: server.connectionString });
  database.on('error', quiet); // the server ends before this connection when we are interrupted
  await database.connect();
  undo.push(() => database.end());
  return database;
}

async function compare(
  relays: readonly DemoRelay[],
  database: pg.Client,
  log: readonly LogLine[],
): Promise<boolean> {
  heading('Is that right? What the relays serve, and what is archived');
  const checks: Check[] = await checkArchive(relays, database, log);
  say(table(checks.map((check) => ({ ...check, right: check.right ? 'yes' : 'NO' }))));
  return checks.every(({ right }) => right);
}

async function askQuestions(database: pg.Client): Promise<void> {
  heading('Questions to the archive');
  for (const { question, sql } of EXAMPLE_QUERIES) {
    const { rows } = await database.query<Row>(sql);
    say(`${question}\n\n    ${sql.replaceAll('\n', '\n    ')};\n\n${table(rows, '      ')}`);
  }
}

function heading(text: string): void {
  say(`\n${text}\n${'-'.repeat(text.length)}\n`);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
