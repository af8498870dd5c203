import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, expect, test } from 'vitest';
import { projectFile } from '../processes/project.ts';

const BELOW_SERVICES = [
  'nostr',
  'network',
  'config',
  'telemetry',
  'database',
  'relay-client',
  'runtime',
];

/** What the files of a room may import (docs/invariants.md). Imports run one way and never back. */
interface Room {
  readonly files: RegExp;
  readonly sees: readonly string[];
  /** Rooms of which only types may be imported. */
  readonly seesTypesOf?: readonly string[];
}

/** From the bottom up: a room sees some of those before it. */
const ROOMS: Readonly<Record<string, Room>> = {
  nostr: { files: /^nostr\//, sees: [] },
  network: { files: /^network\//, sees: ['nostr'] },
  config: { files: /^config\//, sees: ['nostr', 'network'] },
  telemetry: { files: /^telemetry\//, sees: [], seesTypesOf: ['nostr'] },
  database: {
    files: /^database\//,
    sees: ['nostr', 'network', 'telemetry'],
    seesTypesOf: ['config'],
  },
  'relay-client': { files: /^relay-client\//, sees: ['nostr', 'network'] },
  nip77: { files: /^nip77\//, sees: ['nostr', 'network', 'relay-client'] },
  runtime: { files: /^runtime\//, sees: ['network', 'config', 'telemetry', 'database'] },
  checks: { files: /^monitor\/checks\//, sees: ['nostr', 'network', 'relay-client', 'nip77'] },
  publish: {
    files: /^monitor\/publish\//,
    sees: ['nostr', 'network', 'relay-client'],
    seesTypesOf: ['config', 'telemetry', 'runtime'],
  },
  monitor: {
    files: /^monitor\/[^/]+\.ts$/,
    sees: [...BELOW_SERVICES, 'checks', 'publish'],
  },
  finder: { files: /^finder\//, sees: BELOW_SERVICES },
  refresh: { files: /^refresh\//, sees: ['config', 'telemetry', 'database', 'runtime'] },
  sync: { files: /^sync\//, sees: [...BELOW_SERVICES, 'nip77'] },
  query: { files: /^serve\/query\//, sees: ['nostr', 'database'] },
  serve: {
    files: /^serve\/(?!query\/)/,
    sees: ['nostr', 'network', 'config', 'telemetry', 'database', 'runtime', 'nip77', 'query'],
  },
  dataset: {
    files: /^dataset\//,
    sees: ['nostr', 'network', 'config', 'telemetry', 'database', 'runtime', 'query'],
  },
  local: {
    files: /^local\//,
    sees: ['nostr', 'network', 'config', 'telemetry', 'database', 'runtime'],
  },
  entrypoints: {
    files: /^[^/]+\.ts$/,
    sees: [
      ...['config', 'telemetry', 'database', 'runtime', 'monitor', 'finder', 'refresh'],
      ...['sync', 'serve', 'dataset', 'local'],
    ],
  },
};

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typesOnly: boolean;
}

type Sources = ReadonlyMap<string, string>;

const STATIC = /^(?:import|export)\s+(type\s+)?([^'";]*?)\bfrom\s+'([^']+)'/gm;
const OTHER = /^import\s+'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/gm;

/** What one file imports of ours. */
function importsOf(from: string, text: string): Import[] {
  const named = [...text.matchAll(STATIC)].map(([, type, names = '', to = '']) => ({
    to,
    typesOnly: type !== undefined || areTypes(names),
  }));
  const others = [...text.matchAll(OTHER)].map(([, bare, dynamic]) => ({
    to: bare ?? dynamic ?? '',
    typesOnly: false,
  }));
  return [...named, ...others]
    .filter(({ to }) => to.startsWith('.'))
    .map(({ to, typesOnly }) => ({ from, to: posix.join(posix.dirname(from), to), typesOnly }));
}

function areTypes(names: string): boolean {
  const list = /^\{([\s\S]*)\}\s*$/.exec(names.trim())?.[1];
  const each = (list ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  return each.length > 0 && each.every((name) => name.startsWith('type '));
}

const roomOf = (file: string) =>
  Object.entries(ROOMS)
    .filter(([, { files }]) => files.test(file))
    .map(([name]) => name);

/** Everything in which the sources break the rules, one sentence each. */
function faults(sources: Sources): string[] {
  const imports = [...sources].flatMap(([file, text]) => importsOf(file, text));
  const homeless = [...sources.keys()]
    .filter((file) => roomOf(file).length !== 1)
    .map((file) => `${file} is in ${roomOf(file).join(' and ') || 'no room: give it one here'}`);
  const unknown = imports
    .filter(({ to }) => !sources.has(to))
    .map(({ from, to }) => `${from} imports ${to}, which is not there`);
  return [...homeless, ...unknown, ...imports.flatMap(wrongWay), ...cycles(imports)];
}

function wrongWay({ from, to, typesOnly }: Import): string[] {
  const [here = ''] = roomOf(from);
  const [there = ''] = roomOf(to);
  const room = ROOMS[here];
  if (!room || here === there || room.sees.includes(there)) return [];
  if (typesOnly && room.seesTypesOf?.includes(there)) return [];
  return [`${from} (${here}) must not import ${typesOnly ? 'types of ' : ''}${to} (${there})`];
}

/** Files that import each other in a circle, of types too: none of them can be read, or changed, without the others. */
function cycles(imports: readonly Import[]): string[] {
  const next = new Map<string, string[]>();
  for (const { from, to } of imports) next.set(from, [...(next.get(from) ?? []), to]);
  const done = new Set<string>();
  const found: string[] = [];
  const walk = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) found.push(`circle: ${[...path.slice(start), file].join(' → ')}`);
    if (start >= 0 || done.has(file)) return;
    for (const to of next.get(file) ?? []) walk(to, [...path, file]);
    done.add(file);
  };
  for (const file of next.keys()) walk(file, []);
  return found;
}

const SOURCES: Sources = new Map(
  readdirSync(projectFile('src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => [
      name.replaceAll('\\', '/'),
      readFileSync(join(projectFile('src'), name), 'utf8'),
    ]),
);

describe('imports', () => {
  test('run from services down to the protocol, and never back', () => {
    expect(SOURCES.size).toBeGreaterThan(30);
    expect(faults(SOURCES)).toEqual([]);
  });

  test('only workers, the life of a service and commands open the archive', () => {
    const openers = [...SOURCES].flatMap(([file, text]) =>
      importsOf(file, text).filter(
        ({ to, typesOnly }) => to === 'database/bigbrotr.ts' && !typesOnly,
      ),
    );
    const allowed =
      /^([^/]+\/worker|runtime\/service-host|database\/initialize-archive|local\/(local-stack|(verify|import)-local-archive)|dataset\/import-dataset)\.ts$/;
    expect(openers.length).toBeGreaterThan(3);
    expect(openers.map(({ from }) => from).filter((from) => !allowed.test(from))).toEqual([]);
  });
});

test('entrypoints only compose: at most 40 lines, and no export', () => {
  const entrypoints = [...SOURCES].filter(([file]) => !file.includes('/'));
  expect(entrypoints.length).toBeGreaterThan(7);
  for (const [file, text] of entrypoints) {
    expect(text.split('\n').length, file).toBeLessThanOrEqual(40);
    expect(text, file).not.toMatch(/^export /m);
  }
});

describe('a wrong import is found', () => {
  /** What is wrong with the line at the top of the file, apart from what is wrong already. */
  const seeded = (file: string, line: string) => {
    const before = faults(SOURCES);
    const text = `${line}\n${SOURCES.get(file) ?? ''}`;
    return faults(new Map([...SOURCES, [file, text]])).filter((fault) => !before.includes(fault));
  };

  test.each([
    ['nostr/event.ts', "import { dial } from '../network/dial.ts';", 'network'],
    ['nostr/event.ts', "import type { RelayUrl } from '../network/url.ts';", 'network'],
    ['network/url.ts', "import { readConfig } from '../config/load.ts';", 'config'],
    ['sync/paging/pager.ts', "import { x } from '../../monitor/probe.ts';", 'monitor'],
    [
      'relay-client/publish.ts',
      "import type { Bigbrotr } from '../database/bigbrotr.ts';",
      'database',
    ],
    [
      'monitor/checks/read.ts',
      "import { Bigbrotr } from '../../database/bigbrotr.ts';",
      'database',
    ],
    ['monitor/probe.ts', "import '../sync/visit.ts';", 'sync'],
    [
      'database/bigbrotr.ts',
      "import {\n  type Visit,\n  Other,\n} from '../sync/visit.ts';",
      'sync',
    ],
    ['runtime/scheduler.ts', "export { visitRelay } from '../sync/visit-relay.ts';", 'sync'],
    ['config/load.ts', "export * from '../telemetry/logger.ts';", 'telemetry'],
    ['runtime/service.ts', "const later = await import('../monitor.ts');", 'entrypoints'],
  ])('%s: %s', (file, line, room) => {
    expect(seeded(file, line)).toContainEqual(expect.stringMatching(`^${file} .*\\(${room}\\)$`));
  });

  test.each([
    ['network/url.ts', "import { transport } from './transport.ts';"],
    ['network/url.ts', "import type { TransportOptions } from './transport.ts';"],
    ['sync/proofs.ts', "import type { Visit } from './visit.ts';"],
    ['runtime/worker-slot.ts', "type Options = import('./scheduler.ts').SchedulerOptions;"],
  ])('%s: %s: a circle', (file, line) => {
    expect(seeded(file, line)).toEqual(
      expect.arrayContaining([expect.stringMatching(/^circle: /)]),
    );
  });

  test('and so are a file without a room and one that is not there', () => {
    expect(seeded('stray/file.ts', '')).toEqual(['stray/file.ts is in no room: give it one here']);
    expect(seeded('network/url.ts', "import { x } from './nowhere.ts';")).toEqual([
      'network/url.ts imports network/nowhere.ts, which is not there',
    ]);
  });
});
