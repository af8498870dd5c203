import { existsSync, readFileSync } from 'node:fs';
import { parse } from 'dotenv';
import { describe, expect, test } from 'vitest';
import { loadAllConfigs } from '../../../src/config/load.ts';
import { allVariables, secretNames } from '../../../src/config/schema.ts';
import { good, problems } from '../../fixtures/configuration.ts';

describe('env.example', () => {
  const text = readFileSync(new URL('../../../env.example', import.meta.url), 'utf8');
  const example = parse(text);
  const lines = text.split('\n');

  function defaultOf(name: string): string {
    const schema = allVariables[name as keyof typeof allVariables];
    return 'defaultValue' in schema.def ? `${schema.def.defaultValue}` : 'CHANGE_ME';
  }

  test('contains exactly the known variables', () => {
    expect(Object.keys(example).sort()).toEqual(Object.keys(allVariables).sort());
    expect(lines.filter((line) => /^\w+=/.test(line))).toHaveLength(Object.keys(example).length);
  });

  test.each(Object.keys(allVariables))('has the default and an explanation of %s', (name) => {
    expect(example[name]).toBe(defaultOf(name));
    const at = lines.indexOf(`${name}=${example[name]}`);
    expect(lines[at - 1]).toMatch(/^# .{10,}/);
  });

  test('equals the defaults when the placeholders are replaced', () => {
    const filled = { ...example, ...good, POSTGRES_OWNER_PASSWORD: '', API_DB_PASSWORD: '' };
    expect(loadAllConfigs(filled)).toEqual(loadAllConfigs(good));
    expect(problems(() => loadAllConfigs(example))).toHaveLength(5);
    for (const name of secretNames) expect(['CHANGE_ME', '']).toContain(example[name]);
  });

  test('has every variable that docker-compose.yml takes from it', () => {
    const path = new URL('../../../docker-compose.yml', import.meta.url);
    expect(existsSync(path)).toBe(true);
    const compose = readFileSync(path, 'utf8');
    const taken = [...compose.matchAll(/\$\{([A-Z_]+)|^ +([A-Z_]+):$/gm)].map(
      (match) => match[1] ?? match[2] ?? '',
    );
    const known = [
      ...Object.keys(allVariables),
      ...secretNames.map((name) => `${name}_FILE`),
      'COMPOSE_PROJECT_NAME',
    ];
    expect(taken.length).toBeGreaterThan(20);
    expect(taken.filter((name) => !known.includes(name))).toEqual([]);
  });
});
