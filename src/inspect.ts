/** Entry: `npm run inspect -- FILE|FOLDER` checks files and datasets without a database (docs/datasets.md). */
import { parseInspectPath } from './dataset/import-options.ts';
import { inspect } from './dataset/inspect.ts';
import { runCommand } from './runtime/entrypoint.ts';

await runCommand(
  (args) =>
    inspect(parseInspectPath(args), {
      onResult: (line) => void process.stdout.write(`${line}\n`),
      onProgress: (line) => void process.stderr.write(`${line}\n`),
    }),
  2,
);
