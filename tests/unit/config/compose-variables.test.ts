import { describe, expect, test } from 'vitest';
import {
  allVariables,
  apiVariables,
  commonVariables,
  databaseVariables,
  finderVariables,
  initializerVariables,
  keyVariables,
  monitorVariables,
  prioritySynchronizerVariables,
  readerLoginVariables,
  refresherVariables,
  relayServerVariables,
  relayVariables,
  synchronizerVariables,
  syncVariables,
} from '../../../src/config/schema.ts';
import {
  nodeServices,
  read,
  readers,
  service,
  services,
  text,
  worker,
} from '../../fixtures/compose-file.ts';

describe('variables of docker-compose.yml', () => {
  const { HEALTH_HOST } = relayVariables;
  const visitor = { ...commonVariables, ...databaseVariables, ...relayVariables, ...keyVariables };
  const sync = { ...visitor, ...syncVariables };
  const { LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS } = commonVariables;
  // Its login is API_DB_USER, so that it is not told that of the services.
  const {
    POSTGRES_USER: _user,
    POSTGRES_PASSWORD: _password,
    ...databaseOfApi
  } = databaseVariables;
  const ofReader = { LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS, ...databaseOfApi };
  const wanted: Record<string, object> = {
    initializer: { ...commonVariables, ...databaseVariables, ...initializerVariables },
    monitor: { ...visitor, ...monitorVariables },
    synchronizer: { ...sync, ...synchronizerVariables },
    [worker]: { ...sync, ...synchronizerVariables },
    priority_synchronizer: { ...sync, ...prioritySynchronizerVariables },
    finder: { ...commonVariables, ...databaseVariables, ...relayVariables, ...finderVariables },
    api: { ...ofReader, ...apiVariables },
    relay: { ...ofReader, HEALTH_HOST, ...readerLoginVariables, ...relayServerVariables },
    refresher: { ...commonVariables, ...databaseVariables, HEALTH_HOST, ...refresherVariables },
  };

  test.each([...nodeServices, ...readers])(
    '%s is told all that src/config/load.ts asks for, and nothing else',
    (name) => {
      const given = Object.keys(service(name).environment ?? {}).filter(
        (variable) => !variable.endsWith('_FILE'),
      );
      expect(given.sort()).toEqual(Object.keys(wanted[name] ?? {}).sort());
    },
  );

  test('check_env receives every variable, and all of .env to find names that are no variable', () => {
    const { environment = {}, env_file } = service('check_env');
    const outside = ['LOCAL_DATA_PATH', 'POSTGRES_DB_INIT_PATH']; // npm start's, and a file that Docker looks for
    const told = Object.keys(allVariables).filter((name) => !outside.includes(name));
    expect(Object.keys(environment)).toEqual(expect.arrayContaining(told));
    expect(env_file).toEqual([{ path: '.env', required: false }]);
    const published = services.flatMap(([, { ports = [] }]) =>
      ports.map((port) => /\$\{(\w+)/.exec(port)?.[1] as string),
    );
    expect(published).toHaveLength(14);
    // The port on this machine, not the fixed one inside the container.
    for (const name of published) expect(environment[name], name).toBeNull();
  });

  test('every variable that the file takes from .env is explained in env.example', () => {
    const asked = new Set([...text.matchAll(/\$\{(\w+)/g)].map(([, name]) => name as string));
    asked.delete('COMPOSE_PROJECT_NAME');
    const example = read('env.example');
    expect([...asked].filter((name) => !(name in allVariables))).toEqual([]);
    expect([...asked].filter((name) => !new RegExp(`^${name}=`, 'm').test(example))).toEqual([]);
  });
});
