import { parse } from 'dotenv';
import { afterEach, expect, test, vi } from 'vitest';
import { keyPairLines } from '../../../src/config/key-pair.ts';
import { loadMonitorConfig } from '../../../src/config/load.ts';

afterEach(() => {
  vi.restoreAllMocks();
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

test('the entrypoint prints a pair', async () => {
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  await import('../../../src/keygen.ts');
  const printed = write.mock.calls.map(([text]) => `${text}`).join('');
  expect(printed).toMatch(/SECRET_KEY=[0-9a-f]{64}\n/);
});
