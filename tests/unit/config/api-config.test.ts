import { describe, expect, test } from 'vitest';
import { loadApiConfig } from '../../../src/config/load.ts';
import { failure, POSTGRES_PASSWORD, problems } from '../../fixtures/configuration.ts';

describe('loadApiConfig', () => {
  test('reads with the login of the services unless it has one of its own', () => {
    const shared = loadApiConfig({ POSTGRES_PASSWORD, POSTGRES_USER: 'writer' }).database;
    expect(shared).toMatchObject({ user: 'writer', password: POSTGRES_PASSWORD });
    const own = { API_DB_USER: 'bigbrotr_api', API_DB_PASSWORD: 'of the API' };
    const login = { user: 'bigbrotr_api', password: 'of the API' };
    expect(loadApiConfig({ POSTGRES_PASSWORD, ...own }).database).toMatchObject(login);
    expect(loadApiConfig(own).database).toMatchObject(login); // it is not told the other one
    expect(problems(() => loadApiConfig({ API_DB_USER: 'bigbrotr_api' }))).toEqual([
      expect.stringMatching(/^API_DB_PASSWORD is not set\./),
    ]);
    expect(problems(() => loadApiConfig({}))).toEqual([
      expect.stringMatching(/^POSTGRES_PASSWORD is not set\./),
    ]);
  });

  test('asks the services of this machine for the status, but not itself, or those named', () => {
    const here = loadApiConfig({ POSTGRES_PASSWORD, FINDER_HEALTH_PORT: '0' });
    expect(here.statusServices).toEqual([
      '127.0.0.1:8081',
      '127.0.0.1:8082',
      '127.0.0.1:8083',
      '127.0.0.1:8086',
      '127.0.0.1:8087',
    ]);
    const named = { POSTGRES_PASSWORD, API_STATUS_SERVICES: 'monitor:8081, finder:8084' };
    expect(loadApiConfig(named).statusServices).toEqual(['monitor:8081', 'finder:8084']);
  });

  test('names every value that is wrong', () => {
    const wrong = {
      ...{ POSTGRES_PASSWORD, API_PORT: 'x', API_CORS_ORIGINS: 'example.com' },
      ...{ API_TRUSTED_PROXIES: '10.0.0.0/99', API_STATUS_SERVICES: 'monitor' },
    };
    const { message } = failure(() => loadApiConfig(wrong));
    for (const name of Object.keys(wrong).filter((name) => name.startsWith('API_')))
      expect(message).toContain(`- ${name} must`);
  });
});
