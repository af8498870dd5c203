import { fileURLToPath } from 'node:url';
import { parse } from 'dotenv';
import { afterEach, expect, test, vi } from 'vitest';
import { loadMonitorConfig } from '../../src/config.ts';
import { keyPairLines } from '../../src/keygen.ts';

const argument = process.argv[1];
afterEach(() => {
  if (argument !== undefined) process.argv[1] = argument;
  vi.restoreAllMocks();
  vi.resetModules();
});

test('prints a pair that the configuration takes', () => {
  const lines = keyPairLines();
  expect(lines).toMatch(/^SECRET_KEY=[0-9a-f]{64}\nPUBLIC_KEY=[0-9a-f]{64}\n$/);
  const env = parse(lines);
  expect(loadMonitorConfig({ ...env, POSTGRES_PASSWORD: 'x' }).keys).toEqual({
    secretKey: env.SECRET_KEY,
    publicKey: env.PUBLIC_KEY,
  });
});

test('never prints the same pair twice', () => {
  expect(keyPairLines()).not.toBe(keyPairLines());
});

test('prints when it is started, and only then', async () => {
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  const printed = () => write.mock.calls.map(([text]) => `${text}`).join('');
  vi.resetModules();
  await import('../../src/keygen.ts');
  expect(printed()).not.toContain('SECRET_KEY');
  process.argv[1] = fileURLToPath(new URL('../../src/keygen.ts', import.meta.url));
  vi.resetModules();
  await import('../../src/keygen.ts');
  expect(printed()).toMatch(/SECRET_KEY=[0-9a-f]{64}\n/);
});
