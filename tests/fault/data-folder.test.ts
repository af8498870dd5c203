import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Bigbrotr } from '../../src/database/bigbrotr.ts';
import { startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { quiet, verify } from '../fixtures/backup-drill.ts';
import { contentOf, fillDrillArchive, writing } from '../fixtures/drill-archive.ts';
import { silent } from '../postgres/bigbrotr.ts';
import { ownDirectory } from '../processes/directory.ts';
import { projectFile } from '../processes/project.ts';

describe('the data folder of npm start', () => {
  test('a copy made while the archive is stopped restores it whole', async () => {
    const home = join(ownDirectory(), 'folder-drill');
    const [folder, copy] = [join(home, 'data'), join(home, 'data-backup')];
    const open = () =>
      startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), port: 0, log: quiet });
    try {
      let server = await open();
      await Bigbrotr.load(writing(server), readFileSync(projectFile('init.sql'), 'utf8'), silent);
      await fillDrillArchive(server);
      const before = await contentOf(server);
      await server.stop();
      execFileSync('cp', ['-a', folder, copy]);

      rmSync(folder, { recursive: true });
      execFileSync('cp', ['-a', copy, folder]);
      server = await open();
      try {
        expect(await contentOf(server)).toBe(before);
        expect(verify(server)).toMatchObject({
          code: 0,
          said: expect.stringMatching(/^302 events read back, 0 diff/),
        });
      } finally {
        await server.stop();
      }
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
});
