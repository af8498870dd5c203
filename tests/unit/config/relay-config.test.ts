import { describe, expect, test } from 'vitest';
import { loadRelayConfig } from '../../../src/config/load.ts';
import { failure, POSTGRES_PASSWORD, problems } from '../../fixtures/configuration.ts';

describe('loadRelayConfig', () => {
  test('reads with the login of the API, or that of the services where it has none', () => {
    const own = { API_DB_USER: 'bigbrotr_api', API_DB_PASSWORD: 'of the API' };
    const login = { user: 'bigbrotr_api', password: 'of the API' };
    expect(loadRelayConfig(own).database).toMatchObject(login);
    expect(loadRelayConfig({ POSTGRES_PASSWORD }).database.password).toBe(POSTGRES_PASSWORD);
    expect(problems(() => loadRelayConfig({}))).toEqual([
      expect.stringMatching(/^POSTGRES_PASSWORD is not set\./),
    ]);
  });

  test('clients can authenticate where its URL is known', () => {
    const on = { POSTGRES_PASSWORD, RELAY_AUTH: 'true', RELAY_READERS: 'AB'.repeat(32) };
    const url = 'wss://relay.example.com';
    expect(loadRelayConfig({ ...on, RELAY_URL: url })).toMatchObject({
      authUrl: url,
      readers: ['ab'.repeat(32)],
    });
    expect(loadRelayConfig({ POSTGRES_PASSWORD, RELAY_URL: url }).authUrl).toBeNull();
    expect(problems(() => loadRelayConfig(on))).toEqual([
      expect.stringMatching(/^RELAY_AUTH needs RELAY_URL/),
    ]);
    expect(problems(() => loadRelayConfig({ ...on, RELAY_AUTH: 'false' }))).toEqual([
      expect.stringMatching(/^RELAY_READERS needs RELAY_AUTH/),
    ]);
  });

  test('names every value that is wrong', () => {
    const wrong = {
      ...{ POSTGRES_PASSWORD, RELAY_PORT: 'x', RELAY_URL: 'https://example.com' },
      ...{ RELAY_TRUSTED_PROXIES: 'proxy', RELAY_READERS: 'npub1x', RELAY_DB_MAX_POOL: '1' },
    };
    const { message } = failure(() => loadRelayConfig(wrong));
    for (const name of Object.keys(wrong).filter((name) => name.startsWith('RELAY_')))
      expect(message).toContain(`- ${name} must`);
  });
});
