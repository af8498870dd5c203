import { execFile, type StdioOptions, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { projectFile } from '../processes/project.ts';

const run = promisify(execFile);
const MINUTE = 60_000;

/** Only what the docker client needs: a POSTGRES_… of this shell would win over the test's own. */
const clientEnvironment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) =>
    /^(PATH|HOME|DOCKER_.*|XDG_RUNTIME_DIR)$/.test(name),
  ),
);

async function docker(args: readonly string[], timeout = MINUTE): Promise<string> {
  const options = { env: clientEnvironment, timeout, maxBuffer: 64 * 1024 * 1024 };
  const { stdout } = await run('docker', [...args], options);
  return stdout;
}

/** Why containers cannot be run here, or null when they can. */
export async function missingEngine(): Promise<string | null> {
  return (await refusalOf('version', '--format', '{{.Server.Version}}')) ?? missingCompose();
}

/** Why `docker compose` cannot even read a file here, or null when it can. */
export function missingCompose(): Promise<string | null> {
  return refusalOf('compose', 'version');
}

async function refusalOf(...args: string[]): Promise<string | null> {
  try {
    await docker(args);
    return null;
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string };
    return (stderr || message).trim().split('\n').at(-1) ?? 'no answer from docker';
  }
}

/** Whether an image is here or can be had. */
export async function canHave(image: string): Promise<boolean> {
  const present = await docker(['image', 'inspect', image]).catch(() => null);
  return (
    present !== null || (await docker(['pull', '-q', image], 5 * MINUTE).catch(() => null)) !== null
  );
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== 'object' || address === null) throw new Error('no port is free');
  return address.port;
}

const portNames = [
  'DB_PORT',
  'PGBOUNCER_PORT',
  'PGADMIN_PORT',
  'MONITOR_HEALTH_PORT',
  'SYNCHRONIZER_HEALTH_PORT',
  'PRIORITY_SYNCHRONIZER_HEALTH_PORT',
  'FINDER_HEALTH_PORT',
  'API_PORT',
  'REFRESHER_HEALTH_PORT',
  'RELAY_PORT',
  'RELAY_HEALTH_PORT',
] as const;
export type PortName = (typeof portNames)[number];

export interface ContainerState {
  readonly State: {
    readonly Status: string;
    readonly ExitCode: number;
    readonly Health?: { readonly Status: string };
  };
  readonly NetworkSettings: {
    readonly Ports: Record<string, { readonly HostIp: string }[] | null>;
  };
  readonly RestartCount: number;
}

/** One `docker compose` project with ports, passwords and volumes of its own. */
export class ComposeStack {
  readonly project = `bigbrotr-test-${randomBytes(3).toString('hex')}`;
  readonly ports: Readonly<Record<PortName, number>>;
  readonly directory: string;
  readonly #files: readonly string[];

  private constructor(files: readonly string[], ports: Record<PortName, number>) {
    this.#files = files.map(projectFile);
    this.ports = ports;
    this.directory = mkdtempSync(join(tmpdir(), `${this.project}-`));
  }

  /** @param variables what stands in `.env`; the ports are added. */
  static async create(
    files: readonly string[],
    variables: (directory: string) => Readonly<Record<string, string>>,
  ): Promise<ComposeStack> {
    const ports = {} as Record<PortName, number>;
    for (const name of portNames) ports[name] = await freePort();
    const stack = new ComposeStack(files, ports);
    const all = { ...variables(stack.directory), ...ports };
    const lines = Object.entries(all).map(([name, value]) => `${name}='${value}'\n`);
    writeFileSync(join(stack.directory, '.env'), lines.join(''));
    return stack;
  }

  /** Runs `docker compose …` and gives what it prints. @throws with what it says on stderr. */
  compose(args: readonly string[], minutes = 5): Promise<string> {
    return docker(this.#command(args), minutes * MINUTE);
  }

  #command(args: readonly string[]): string[] {
    const files = this.#files.flatMap((file) => ['-f', file]);
    const env = ['--env-file', join(this.directory, '.env')];
    return ['compose', '-p', this.project, ...env, ...files, ...args];
  }

  /** Runs a command as people write it, with this project in the place of bigbrotr. @throws with what it says */
  async shell(command: string): Promise<string> {
    const env = {
      ...clientEnvironment,
      COMPOSE_PROJECT_NAME: this.project,
      COMPOSE_FILE: this.#files.join(':'),
      COMPOSE_ENV_FILES: join(this.directory, '.env'),
    };
    const own = command.replace(/bigbrotr_(?!owner)/g, `${this.project}_`);
    // `docker exec -it` asks for a terminal, which script gives it: a large one, where psql asks nobody to turn pages.
    const args = own.includes(' -it ')
      ? ['script', '-qec', `stty rows 200 cols 400; ${own}`, '/dev/null']
      : ['bash', '-o', 'pipefail', '-c', own];
    const [program = '', ...rest] = args;
    const { stdout } = await run(program, rest, { env, timeout: 5 * MINUTE });
    return stdout.replaceAll(`${this.project}_`, 'bigbrotr_');
  }

  /** Runs `docker compose … < input > output`; the files lie in the stack's directory. */
  async redirect(args: readonly string[], { input = '', output = '' }): Promise<void> {
    const open = (name: string, flags: string) =>
      name === '' ? null : openSync(join(this.directory, name), flags);
    const files = [open(input, 'r'), open(output, 'w')] as const;
    const stdio: StdioOptions = [files[0] ?? 'ignore', files[1] ?? 'ignore', 'inherit'];
    const child = spawn('docker', this.#command(args), { env: clientEnvironment, stdio });
    const [code] = await once(child, 'exit');
    for (const file of files) if (file !== null) closeSync(file);
    if (code !== 0) throw new Error(`docker compose ${args.join(' ')} ended with ${code}`);
  }

  /** `up -d --wait`; on failure the error carries the logs. */
  async up(args: readonly string[]): Promise<void> {
    try {
      await this.compose(['up', '-d', '--wait', ...args], 15);
    } catch (error) {
      const logs = await this.compose(['logs', '--no-color', '--tail', '20']).catch(() => '');
      throw new Error(`docker compose up failed: ${error}\n${logs}`);
    }
  }

  /** Runs a command in a service's container. */
  exec(service: string, ...command: string[]): Promise<string> {
    return this.compose(['exec', '-T', service, ...command]);
  }

  async inspect(service: string): Promise<ContainerState> {
    const [found] = JSON.parse(
      await docker(['inspect', `${this.project}_${service === 'postgres' ? 'database' : service}`]),
    );
    return found;
  }

  /** The HTTP status of a health port, or null when nothing answers. */
  async health(port: PortName): Promise<number | null> {
    const url = `http://127.0.0.1:${this.ports[port]}/health`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) }).catch(() => null);
    return answer?.status ?? null;
  }

  /** One query through a published port, on a connection of its own. */
  async query(
    user: string,
    password: string,
    sql: string,
    { database = 'bigbrotr', port = 'PGBOUNCER_PORT' as PortName } = {},
  ): Promise<Record<string, unknown>[]> {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: this.ports[port],
      user,
      password,
      database,
      connectionTimeoutMillis: 10_000,
    });
    client.on('error', () => {});
    await client.connect();
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  }

  /** Ends everything and leaves nothing behind. */
  async down(): Promise<void> {
    await this.compose(['down', '-v', '--remove-orphans', '--rmi', 'local', '-t', '15']);
    this.forget();
  }

  /** For a stack that was never started. */
  forget(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Asks until the answer is the wanted one. @throws after the minutes given, with the last answer. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T>,
  wanted: (answer: T) => boolean,
  minutes = 2,
): Promise<T> {
  const end = Date.now() + minutes * MINUTE;
  for (;;) {
    const answer = await ask();
    if (wanted(answer)) return answer;
    if (Date.now() > end)
      throw new Error(`${what}: still ${JSON.stringify(answer)} after ${minutes} min`);
    await sleep(250);
  }
}
