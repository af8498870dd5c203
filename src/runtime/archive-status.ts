/** How an archive stands: what its tables say, what the services say of themselves, and the room on the disk. */
import { readFile, statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { ArchiveReader } from '../database/archive-reader.ts';
import type { Query } from '../database/connection.ts';
import { archiveStatus, type DescribedRow, describedRow } from '../database/descriptions.ts';
import { DatabaseError } from '../database/error.ts';
import * as operator from '../database/operator-status.ts';
import { runRows } from '../database/runs.ts';
import { diskReason, diskState } from '../telemetry/disk-watch.ts';
import type { HealthStatus } from '../telemetry/health.ts';

const HEALTH_WAIT_MS = 3000;

export interface StatusSources {
  readonly archive: ArchiveReader;
  /** `host:port` of the services whose `/health` is read. */
  readonly services: readonly string[];
  /** A path on the disk of the database; null where this machine does not have it. */
  readonly dataPath: string | null;
}

/** The answers to an operator's questions. */
export interface ArchiveStatus {
  /** What keeps the archive from working, a sentence each; empty: it works. */
  readonly problems: readonly string[];
  readonly rows: readonly DescribedRow[];
}

/** Reads everything that `npm run status` and `GET /v1/status` show. @throws DatabaseError */
export async function readStatus({
  archive,
  services,
  dataPath,
}: StatusSources): Promise<ArchiveStatus> {
  const [tables, growth, version, healths] = await Promise.all([
    archive.read(archiveStatus),
    archive.read(operator.growth),
    versionRow(),
    Promise.all(services.map(askService)),
  ]);
  const [backlog, failing, unproven, runs, disk] = await Promise.all([
    readPart(archive, 'coverage', (query) => operator.backlogRows(query, growth)),
    readPart(archive, 'failing', operator.failingRows),
    readPart(archive, 'not proven', operator.unprovenRows),
    readPart(archive, 'backups', runRows),
    diskRows(dataPath, growth),
  ]);
  const problems = problemsOf(healths);
  const grown = operator.growthRows(growth);
  const rows = [
    text('verdict', 'works', problems.length === 0 ? 'yes' : `no: ${problems.join('; ')}`),
    text('verdict', 'Tor', torOf(healths)),
    version,
    ...bySection([...tables, ...grown, ...backlog, ...failing, ...unproven, ...runs, ...disk]),
    ...healths.map(serviceRow),
  ];
  return { problems, rows };
}

/** A part that takes too long is left out, and says so. */
async function readPart(
  archive: ArchiveReader,
  section: string,
  work: (query: Query) => Promise<DescribedRow[]>,
): Promise<DescribedRow[]> {
  try {
    return await archive.read(work);
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    return [text(section, 'not known', 'the database took too long to tell')];
  }
}

/** Rows with those of a section together, sections in the order of their first rows. */
function bySection(rows: readonly DescribedRow[]): DescribedRow[] {
  const sections = new Map<string, DescribedRow[]>();
  for (const row of rows) sections.set(row.section, [...(sections.get(row.section) ?? []), row]);
  return [...sections.values()].flat();
}

function text(section: string, name: string, value: string): DescribedRow {
  return describedRow(section, name, value, 'text');
}

/** The version of this program, from its package.json. */
export async function programVersion(): Promise<string> {
  const file = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(file) as { version: string }).version;
}

async function versionRow(): Promise<DescribedRow> {
  return text('version', 'Bigbrotr', await programVersion());
}

/** The room on the disk of the database, how long it lasts, and a warning when it is getting full. */
async function diskRows(
  path: string | null,
  { eventsPerSecond, bytesPerEvent }: operator.Growth,
): Promise<DescribedRow[]> {
  if (path === null) return [];
  const folder = resolve(path);
  const found = await statfs(folder).catch(({ code }: NodeJS.ErrnoException) => String(code));
  if (typeof found === 'string')
    return [text('disk', 'data folder', `${folder} cannot be read (${found})`)];
  const free = found.bavail * found.bsize;
  const reason = diskReason(folder, free, diskState(free));
  const aDay = eventsPerSecond * bytesPerEvent * 86_400;
  const left = aDay > 0 ? `${Math.floor(free / aDay)}` : 'not known: nothing new was stored';
  return [
    text('disk', 'data folder', folder),
    describedRow('disk', 'free on its disk', free, 'bytes'),
    describedRow('disk', 'size of that disk', found.blocks * found.bsize, 'bytes'),
    describedRow('disk', 'days left at this rate', left, aDay > 0 ? 'estimate' : 'text'),
    ...(reason === null ? [] : [text('disk', 'warning', reason)]),
  ];
}

/** What a service said of itself; null: it did not answer. */
export interface Asked {
  readonly address: string;
  readonly health: (HealthStatus & { readonly service: string }) | null;
  readonly isWell: boolean;
}

/** Never rejects. */
async function askService(address: string): Promise<Asked> {
  try {
    const response = await fetch(`http://${address}/health`, {
      signal: AbortSignal.timeout(HEALTH_WAIT_MS),
    });
    const health = (await response.json()) as HealthStatus & { readonly service: string };
    return { address, health, isWell: response.ok };
  } catch {
    return { address, health: null, isWell: false };
  }
}

/** What keeps services from working. What several of them lack is named once. */
export function problemsOf(healths: readonly Asked[]): string[] {
  const problems = new Set<string>();
  const waiting = Math.max(0, ...healths.map(({ health }) => health?.waitsForNetwork ?? 0));
  for (const { address, health, isWell } of healths) {
    if (!health) problems.add(`${address} does not answer`);
    else if (!isWell) {
      const shared = sharedProblemsOf(health, waiting);
      if (shared.length === 0) problems.add(`${health.service}: ${doingOf(health)}`);
      for (const problem of shared) problems.add(problem);
    }
  }
  return [...problems];
}

/** What a service lacks that others lack too. @param waiting relays that wait for our network */
function sharedProblemsOf(health: HealthStatus, waiting: number): string[] {
  const { database, databaseReason, network, networkReason: reason } = health;
  return [
    ...(database === 'down' ? [`the database is down: ${databaseReason ?? 'no answer'}`] : []),
    ...(network === 'down' ? [`${networkOf(waiting)}${reason ? ` (${reason})` : ''}`] : []),
  ];
}

/** Tor as the services that use it see it: the worst of them. */
function torOf(healths: readonly Asked[]): string {
  const seen = healths.flatMap(({ health }) => (health ? [health.tor] : []));
  const worst = (['down', 'no_circuit', 'up', 'off'] as const).find((state) =>
    seen.includes(state),
  );
  return worst ?? 'not known: no service answers';
}

function serviceRow({ address, health }: Asked): DescribedRow {
  if (health) return text('services', health.service, doingOf(health));
  return text(
    'services',
    address,
    'does not answer: the service is not running, or listens elsewhere',
  );
}

/** What a service does, waits for or lacks, as one line. */
export function doingOf(status: HealthStatus): string {
  const { state, database, databaseReason, storing, storingReason, tor, network } = status;
  const busy = Object.entries(status.details ?? {}).filter(([, text]) => text !== '');
  const round = status.lastRound;
  return [
    state,
    ...(database === 'down' ? [`the database is down: ${databaseReason ?? 'no answer'}`] : []),
    ...(storing === 'fails' ? [`storing fails: ${storingReason ?? 'see its log'}`] : []),
    ...(network === 'down' ? [networkOf(status.waitsForNetwork)] : []),
    ...(network === 'degraded' ? [status.networkReason ?? 'our network is degraded'] : []),
    ...(status.diskReason ? [status.diskReason] : []),
    ...(tor === 'down' || tor === 'no_circuit' ? [`Tor is ${tor}`] : []),
    ...busy.map(([what, text]) => `${what} ${text}`),
    ...(round ? [roundOf(round)] : []),
  ].join('; ');
}

/** That our network is down; why is in the verdict. */
function networkOf(waiting = 0): string {
  return `our network is down${waiting > 0 ? `, ${waiting} relays wait for it` : ''}`;
}

function roundOf(round: NonNullable<HealthStatus['lastRound']>): string {
  const reasons = Object.entries(round.reasons).map(([reason, times]) => `${times} ${reason}`);
  const heldBack = round.heldBack ? `, ${round.heldBack} wait for our network` : '';
  const failed = `${round.failed} failed${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}`;
  return `last round: ${round.relays} relays, ${failed}${heldBack}, until ${round.finishedAt}`;
}
