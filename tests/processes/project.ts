import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The directory of the project, wherever this file was compiled to. Found by its package.json, since `dist-demo`
 * lies deeper than the sources do.
 */
export const PROJECT = findProject(dirname(fileURLToPath(import.meta.url)));

/** The path of a file of the project, given relative to its directory. */
export function projectFile(path: string): string {
  return join(PROJECT, path);
}

/** The compiled program. @throws Error when the project has not been built */
export function builtProgram(): string {
  const dist = projectFile('dist');
  if (existsSync(join(dist, 'local.js'))) return dist;
  throw new Error('dist/local.js is not there: run `npm run build` first (`npm test` does).');
}

function findProject(directory: string): string {
  const manifest = join(directory, 'package.json');
  if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).name === 'bigbrotr') {
    return directory;
  }
  const above = dirname(directory);
  if (above === directory) throw new Error('there is no package.json of bigbrotr above this file');
  return findProject(above);
}
