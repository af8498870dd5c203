import type { HealthConfig } from '../config/load.ts';

/** What `npm start -- --help` prints. */
export const USAGE = `npm start                runs the whole archive on this machine, until Ctrl-C
npm start -- --once      visits every relay that is due once, prints a summary, and ends
npm start -- --help      prints this

It starts its own PostgreSQL in ./data (LOCAL_DATA_PATH), or uses the server that POSTGRES_HOST names.
Every setting is an environment variable or a line of .env: env.example explains each with its default.

npm run status           prints how the archive stands, and what the services do
npm run explain -- URL   prints everything about one relay
npm run verify           reads the archive back and checks every id and signature again
npm run export -- --out FOLDER   writes the archive, or a part of it, as a dataset (docs/datasets.md)
npm run import -- FILE   takes events of files and datasets into the archive
npm run inspect -- FILE  checks files and datasets without a database
npm run keygen           prints a key pair for .env
npm run import-python    copies a Python archive (docs/from-python.md)
npm run demo             shows it with relays on this machine, without the internet
`;

/** Where clients of Nostr read the archive, as `npm start` prints it; nothing where any free port is taken. */
export function relayLine({ host, port }: Pick<HealthConfig, 'host' | 'port'>): string {
  return port === 0 ? '' : `Relay: ws://${reachedAt(host)}:${port}\n`;
}

/** Where the API describes itself, as `npm start` prints it; nothing where any free port is taken. */
export function apiLine({ host, port }: Pick<HealthConfig, 'host' | 'port'>): string {
  if (port === 0) return '';
  return `API: http://${reachedAt(host)}:${port}/docs\n`;
}

function reachedAt(host: string): string {
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return name.includes(':') ? `[${name}]` : name;
}
