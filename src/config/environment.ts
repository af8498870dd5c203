import { readFileSync } from 'node:fs';
import { parse } from 'dotenv';
import { closest, distance } from 'fastest-levenshtein';
import type { z } from 'zod';
import { allVariables, PLACEHOLDER, remedyFor, secretNames } from './schema.ts';

/** Variables by name, as in `process.env`. An empty value counts as not set. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Everything that is wrong with the configuration, one sentence a line. Never contains a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: string[];
  readonly warnings: string[];

  constructor(problems: readonly string[], warnings: readonly string[] = []) {
    super(['The configuration cannot be used:', ...problems, ...warnings].join('\n  - '));
    this.problems = [...problems];
    this.warnings = [...warnings];
  }
}

/**
 * The environment of the process, completed by a `.env` file where there is one; a variable of the environment wins, even
 * when it is empty. `process.env` is not changed.
 *
 * @throws ConfigError when the file exists and cannot be read
 */
export function readEnvironment(path = '.env'): { env: Environment; warnings: string[] } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { env: { ...process.env }, warnings: [] };
    throw new ConfigError([
      `${path} cannot be read (${codeOf(error)}): make it a file that this user may read.`,
    ]);
  }
  return { env: { ...parse(text), ...process.env }, warnings: unreadLines(text, path) };
}

function codeOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'unknown error';
}

/** dotenv silently skips lines that it cannot parse; here a warning names each of them. */
function unreadLines(text: string, path: string): string[] {
  const singleLines = text
    .replace(/\r\n?/g, '\n')
    .replace(/([=:][^\S\n]*)(['"`])(?:\\\2|(?!\2)[\s\S])*\2/g, (quoted) =>
      quoted.replace(/[^\n]/g, '='),
    )
    .split('\n');
  return singleLines.flatMap((line, index) =>
    /^\s*($|#|=)|^\s*(export\s+)?[\w.-]+(\s*=|:\s)/.test(line)
      ? []
      : [`${path} line ${index + 1} is not NAME=value and was not read.`],
  );
}

type Shape = Readonly<Record<string, z.ZodType>>;
export type Values<S extends Shape> = { [K in keyof S]: z.output<S[K]> };
/** Compares variables with each other; variables that are wrong by themselves are absent. Returns problems. */
export type Rule<S extends Shape> = (values: Partial<Values<S>>) => readonly (string | null)[];

/**
 * Checks the variables of `shape`, and collects every mistake before it throws. Without `env` the environment of the
 * process and `.env` are read.
 *
 * @throws ConfigError
 */
export function readVariables<S extends Shape>(
  shape: S,
  env: Environment | undefined,
  rule: Rule<S> = () => [],
): { values: Values<S>; warnings: string[] } {
  const source = env ? { env, warnings: [] } : readEnvironment();
  const values: Partial<Values<S>> = {};
  const problems: string[] = [];
  for (const name of Object.keys(shape) as (keyof S & string)[]) {
    const result = readVariable(name, shape[name] as z.ZodType, source.env);
    if ('problems' in result) problems.push(...result.problems);
    else values[name] = result.value as Values<S>[typeof name];
  }
  problems.push(...rule(values).filter((problem) => problem !== null));
  const warnings = [...source.warnings, ...unknownVariables(source.env)];
  if (problems.length > 0) throw new ConfigError(problems, warnings);
  return { values: values as Values<S>, warnings };
}

type Result = { value: unknown } | { problems: string[] };

function readVariable(name: string, schema: z.ZodType, env: Environment): Result {
  const given = givenText(name, env);
  if ('problem' in given) return { problems: [given.problem] };
  if (given.text?.includes(PLACEHOLDER)) {
    return {
      problems: [`${name} still holds the placeholder ${PLACEHOLDER}. ${remedyFor(name)}`],
    };
  }
  const parsed = schema.safeParse(given.text);
  if (parsed.success) return { value: parsed.data };
  return { problems: parsed.error.issues.map((issue) => `${name} ${issue.message}`) };
}

/** The text of a variable; of a secret also from the file that `NAME_FILE` names. */
function givenText(
  name: string,
  env: Environment,
): { text: string | undefined } | { problem: string } {
  const text = env[name] || undefined;
  const path = isSecret(name) ? env[`${name}_FILE`] || undefined : undefined;
  if (path === undefined) return { text };
  if (text !== undefined) {
    return { problem: `${name} and ${name}_FILE are both set: keep one of them.` };
  }
  try {
    const content = readFileSync(path, 'utf8').replace(/[\r\n]+$/, '');
    return content ? { text: content } : { problem: `${name}_FILE names a file that is empty.` };
  } catch (error) {
    // The path is not shown: a secret written there by mistake would be shown with it.
    return { problem: `${name}_FILE names a file that cannot be read (${codeOf(error)}).` };
  }
}

function isSecret(name: string): boolean {
  return secretNames.some((secret) => secret === name);
}

const known = [...Object.keys(allVariables), ...secretNames.map((name) => `${name}_FILE`)];
/** Prefixes that only Bigbrotr uses: any unknown name that begins with one is a mistake. */
const ours =
  /^(PRIORITY_)?SYNCHRONIZER_|^(MONITOR|FINDER|REFRESHER|API|POSTGRES|TORPROXY|SEED_RELAYS)_/;
/** Settings of the official PostgreSQL image, which may be in the same `.env`. */
const foreign = /^POSTGRES_(INITDB_|HOST_AUTH_METHOD$)/;

/** A warning for each variable whose name looks like one of Bigbrotr's and is not. */
function unknownVariables(env: Environment): string[] {
  return Object.keys(env)
    .filter((name) => env[name] && !known.includes(name) && !foreign.test(name))
    .flatMap((name) => warningFor(name) ?? []);
}

function warningFor(name: string): string | null {
  const shared = name.replace(/^PRIORITY_/, '');
  if (shared !== name && known.includes(shared)) {
    return `${name} is not a variable: the priority synchronizer takes ${shared}.`;
  }
  // Full-width letters, lower case and hyphens are typing mistakes too.
  const spelled = name
    .normalize('NFKC')
    .toUpperCase()
    .replace(/[-.\s]/g, '_');
  const nearest = closest(spelled, known);
  const allowed = Math.max(1, Math.floor(spelled.length / 6));
  if (distance(spelled, nearest) > allowed && !ours.test(spelled)) return null;
  return `Unknown variable ${name}, did you mean ${nearest}?`;
}
