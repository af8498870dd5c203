import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, expect, test } from 'vitest';
import { projectFile } from '../support/project.ts';

/** Imports run one way and never back (docs/invariants.md): a file sees its own room and those that its room may see. */
interface Room {
  readonly files: RegExp;
  readonly sees: readonly string[];
  /** Rooms of which it knows types alone: what they do is called by somebody else. */
  readonly seesTypesOf?: readonly string[];
}

const BELOW_SERVICES = ['settings', 'watching', 'database', 'relay', 'nostr'];

const ROOMS: Readonly<Record<string, Room>> = {
  crashes: { files: /^crash-point\.ts$/, sees: [] },
  nostr: { files: /^nostr\//, sees: [] },
  relay: { files: /^relay\//, sees: ['nostr'] },
  checks: { files: /^checks\//, sees: ['nostr', 'relay'] },
  settings: { files: /^config(\.ts$|\/)/, sees: ['nostr', 'relay'] },
  watching: {
    files: /^(logger|health|metrics)\.ts$/,
    sees: ['settings'],
    seesTypesOf: ['relay'],
  },
  database: {
    files: /^(database(-\w+)?\.ts$|bigbrotr(\.ts$|\/))/,
    sees: ['crashes', 'settings', 'nostr', 'relay'],
  },
  // The archive is handed to them: who opens it is a worker or an entrypoint.
  visits: {
    files: /^(visit\/|finder\/|(archive|probe|snapshot-writer)\.ts$)/,
    sees: ['crashes', 'nostr', 'relay', 'checks'],
    seesTypesOf: ['database', 'settings'],
  },
  workers: {
    files: /^(\w+-worker|worker-thread)\.ts$/,
    sees: [...BELOW_SERVICES, 'checks', 'visits'],
  },
  services: {
    files:
      /^(scheduler\/.*|(service|storage-status|scheduler|candidate-loop|due-loop|followed|lanes|run-shown|synchronize|publisher|publishing)\.ts$)/,
    sees: BELOW_SERVICES,
    seesTypesOf: ['visits', 'workers'],
  },
  entrypoints: {
    files:
      /^(local\/.*|local|initializer|monitor|(priority-)?synchronizer|finder|keygen|verify-archive)\.ts$/,
    sees: [...BELOW_SERVICES, 'services'],
    seesTypesOf: ['visits', 'workers'],
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

/** Files that import each other in a circle; types apart, which are gone when it runs. */
function cycles(imports: readonly Import[]): string[] {
  const next = new Map<string, string[]>();
  for (const { from, to, typesOnly } of imports) {
    if (!typesOnly) next.set(from, [...(next.get(from) ?? []), to]);
  }
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
  test('run along the way of the data, and never back', () => {
    expect(SOURCES.size).toBeGreaterThan(30);
    expect(faults(SOURCES)).toEqual([]);
  });

  test('only workers, services and entrypoints open the archive', () => {
    const openers = [...SOURCES].flatMap(([file, text]) =>
      importsOf(file, text).filter(({ to, typesOnly }) => to === 'bigbrotr.ts' && !typesOnly),
    );
    const rooms = new Set(openers.flatMap(({ from }) => roomOf(from)));
    expect([...rooms].sort()).toEqual(['entrypoints', 'services', 'workers']);
  });
});

describe('a wrong import is found', () => {
  /** What is wrong with the line at the top of the file, apart from what is wrong already. */
  const seeded = (file: string, line: string) => {
    const before = faults(SOURCES);
    const text = `${line}\n${SOURCES.get(file) ?? ''}`;
    return faults(new Map([...SOURCES, [file, text]])).filter((fault) => !before.includes(fault));
  };

  test.each([
    ['nostr/event.ts', "import { connectRelay } from '../relay/connection.ts';", 'relay'],
    ['nostr/event.ts', "import type { RelayUrl } from '../relay/url.ts';", 'relay'],
    ['relay/url.ts', "import { readConfig } from '../config.ts';", 'settings'],
    ['relay/paging.ts', "import type { Bigbrotr } from '../bigbrotr.ts';", 'database'],
    ['archive.ts', "import { Bigbrotr } from './bigbrotr.ts';", 'database'],
    ['archive.ts', "import { type Relay, Bigbrotr } from './bigbrotr.ts';", 'database'],
    ['probe.ts', "import './service.ts';", 'services'],
    ['bigbrotr.ts', "import {\n  type Visit,\n  Other,\n} from './visit/visit.ts';", 'visits'],
    ['scheduler.ts', "export { visitRelay } from './archive.ts';", 'visits'],
    ['config.ts', "export * from './logger.ts';", 'watching'],
    ['service.ts', "const later = await import('./monitor.ts');", 'entrypoints'],
  ])('%s: %s', (file, line, room) => {
    expect(seeded(file, line)).toContainEqual(expect.stringMatching(`^${file} .*\\(${room}\\)$`));
  });

  test('and so are a circle, a file without a room and one that is not there', () => {
    expect(seeded('relay/url.ts', "import { connectRelay } from './connection.ts';")).toEqual(
      expect.arrayContaining([expect.stringMatching(/^circle: /)]),
    );
    expect(seeded('relay/url.ts', "import type { Closed } from './connection.ts';")).toEqual([]);
    expect(seeded('stray.ts', '')).toEqual(['stray.ts is in no room: give it one here']);
    expect(seeded('relay/url.ts', "import { x } from './nowhere.ts';")).toEqual([
      'relay/url.ts imports relay/nowhere.ts, which is not there',
    ]);
  });
});
