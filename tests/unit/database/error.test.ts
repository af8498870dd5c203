import pg from 'pg';
import { expect, test } from 'vitest';
import { explain, isDataError, isTransient } from '../../../src/database/error.ts';

test('the error of a full disk says what to do', () => {
  const error = Object.assign(new pg.DatabaseError('could not extend file', 0, 'error'), {
    code: '53100',
  });
  const config = {
    ...{ host: 'db.example', port: 5432, user: 'bigbrotr', password: 'secret' },
    ...{ database: 'bigbrotr', minPool: 0, maxPool: 1, commandTimeoutMs: 1000 },
  };
  expect(explain(error, config)).toBe(
    'The disk of PostgreSQL at db.example:5432 is full: free space on it; nothing is lost, and archiving goes on by itself then (could not extend file)',
  );
});

test.each([
  ['events_pkey', true],
  ['events_pkey_102012', true],
  ['sightings_relay_id_event_key_index_102070', true],
  ['events_id_length_102012', false],
])('a unique violation of %s is a race, also on a shard: %s', (constraint, isRace) => {
  const error = Object.assign(new pg.DatabaseError('duplicate key', 0, 'error'), {
    ...{ code: '23505', constraint },
  });
  expect(isTransient(error)).toBe(isRace);
  expect(isDataError(error)).toBe(!isRace);
});

test('a race on a shard is known by the message, which is all that Citus passes on', () => {
  const of = (message: string) =>
    Object.assign(new pg.DatabaseError(message, 0, 'error'), { code: '23505' });
  const message = 'duplicate key value violates unique constraint';
  expect(isTransient(of(`${message} "events_pkey_102012"`))).toBe(true);
  expect(isTransient(of(`${message} "events_created_at_id_index_102012"`))).toBe(false);
  expect(isTransient(of(message))).toBe(false);
});
