import { beforeEach } from 'vitest';
import { CITUS_EXCEPTIONS } from './citus-exceptions.ts';

/** Skips what is not run against Citus, with the reason, before anything of the test is made. */
if (process.env.TEST_CITUS_PORTS)
  beforeEach(({ task, skip }) => {
    const exception = CITUS_EXCEPTIONS.find(
      ({ file, tests = [''] }) =>
        task.file.filepath.endsWith(`/tests/db/${file}`) &&
        tests.some((name) => task.name.startsWith(name)),
    );
    if (exception) skip(`not on Citus: ${exception.reason}`);
  });
