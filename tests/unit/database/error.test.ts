import pg from 'pg';
import { expect, test } from 'vitest';
import { explain } from '../../../src/database/error.ts';

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
