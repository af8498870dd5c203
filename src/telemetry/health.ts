import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance, FastifyReply, fastify } from 'fastify';

/** Fastify is loaded where a server is made: commands know the errors of this file, and serve nothing. */
const load = createRequire(import.meta.url);

export interface HealthStatus {
  readonly state: 'starting' | 'running' | 'waiting' | 'stopping';
  /** True once the service has everything it needs for its work. */
  readonly ready: boolean;
  readonly database: 'up' | 'down';
  /** While it is down: what refused the connection, with its message. */
  readonly databaseReason?: string;
  /** Whether the database stores what is archived: with a full disk it may answer and store nothing. */
  readonly storing: 'works' | 'fails';
  /** While it fails: what was not stored last, and why. */
  readonly storingReason?: string;
  /** `no_circuit`: the proxy answers, but cannot reach the Tor network. */
  readonly tor: 'up' | 'down' | 'no_circuit' | 'off';
  /** Our own way out. `down`: no address or no name outside can be reached; `off`: not tested. */
  readonly network: 'up' | 'down' | 'degraded' | 'off';
  /** Where it is tested: what of it works. `absent`: this machine has shown no IPv6. */
  readonly networkParts?: Readonly<
    Record<'dns' | 'ipv4' | 'ipv6', 'up' | 'down' | 'absent' | 'off'>
  >;
  /** While a part of it is down: which, as a sentence. */
  readonly networkReason?: string;
  /** While it is down: how many relays are due that cannot be visited before it is back. Absent: none. */
  readonly waitsForNetwork?: number;
  /** The disk of the database, where this process can see it: `low` comes before `full`. */
  readonly disk?: 'enough' | 'low' | 'full';
  readonly diskFreeBytes?: number;
  /** While it is low or full: which, how much is free and what to do, as a sentence. */
  readonly diskReason?: string;
  /** Relays that this process works on, by the claims in the archive; absent before it has any to do with the archive. */
  readonly claims?: {
    /** Host, process id and a random part: `claims.holder` in the archive. */
    readonly holder: string;
    readonly held: number;
    /** Claims that were lost to other processes since the start. */
    readonly lost: number;
  };
  readonly uptimeSeconds: number;
  readonly lastRound: {
    /** ISO 8601. */
    readonly startedAt: string;
    readonly finishedAt: string;
    readonly seconds: number;
    readonly relays: number;
    readonly failed: number;
    /** Relays that could not be visited because our own network is down; they are in no other figure. Absent: none. */
    readonly heldBack?: number;
    /** Why visits failed, the most frequent first. */
    readonly reasons: Readonly<Record<string, number>>;
  } | null;
  readonly counts: Readonly<Record<string, number>>;
  readonly details?: Readonly<Record<string, string>>;
}

export interface HealthOptions {
  readonly service: string;
  readonly status: () => HealthStatus | Promise<HealthStatus>;
  /** The text for Prometheus. */
  readonly metrics: () => Promise<string>;
  /** Receives errors inside a request; the client only learns that there was one. */
  readonly onError?: (error: unknown) => void;
}

/** The service cannot listen on its address. The message says what to change. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
const REQUEST_TIMEOUT_MS = 10_000;

/** The HTTP server of a service: GET /health, /ready and /metrics. Not listening yet. */
export function buildHealthApp(options: HealthOptions): FastifyInstance {
  const { onError } = options;
  const made: { fastify: typeof fastify } = load('fastify');
  const app = made.fastify({
    logger: false,
    forceCloseConnections: true,
    bodyLimit: 1024,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: REQUEST_TIMEOUT_MS,
    frameworkErrors: (_error, _request, reply: FastifyReply) =>
      reply.code(400).send({ error: 'bad request' }),
  });
  app.addHook('onRequest', (_request, reply, done) => {
    reply.header('cache-control', 'no-store');
    done();
  });
  addHealthRoutes(app, options);
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).send({ error: 'not found: GET /health, /ready and /metrics are here' }),
  );
  app.setErrorHandler((error, _request, reply) => sendError(reply, error, onError));
  return app;
}

/** Adds GET /health, /ready and /metrics to a server. */
export function addHealthRoutes(
  app: FastifyInstance,
  { service, status, metrics }: Pick<HealthOptions, 'service' | 'status' | 'metrics'>,
): void {
  app.get('/health', async (_request, reply) => {
    const now = await status();
    return reply.code(codeFor(now)).send({ service, ...now });
  });
  app.get('/ready', async (_request, reply) => {
    const code = codeFor(await status());
    return reply.code(code).send({ service, ready: code === 200 });
  });
  app.get('/metrics', async (_request, reply) => reply.type(METRICS_TYPE).send(await metrics()));
}

/** 200 while the service does its work; 503 tells an orchestrator to wait or to use another instance. */
function codeFor(status: HealthStatus): 200 | 503 {
  const { ready, database, storing, waitsForNetwork, state } = status;
  const works = database === 'up' && storing === 'works' && waitsForNetwork === undefined;
  return ready && works && state !== 'stopping' ? 200 : 503;
}

function sendError(reply: FastifyReply, error: unknown, onError?: (error: unknown) => void) {
  const code = statusCodeOf(error);
  if (code < 500) return reply.code(code).send({ error: 'bad request' });
  onError?.(error);
  return reply.code(500).type('application/json').send({ error: 'internal error' });
}

function statusCodeOf(error: unknown): number {
  const code = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined;
  return typeof code === 'number' && code >= 400 ? code : 500;
}

interface ListenAddress {
  readonly host: string;
  readonly port: number;
  /** The variable that sets the port, such as `MONITOR_HEALTH_PORT`. */
  readonly portVariable?: string;
}

/**
 * Listens, and returns the address (port 0 takes a free one).
 * @throws ListenError when the port is in use or the address cannot be used
 */
export async function listenHealth(
  app: FastifyInstance,
  address: ListenAddress,
): Promise<AddressInfo> {
  const { host, port } = address;
  try {
    await app.listen({ host, port });
  } catch (error) {
    throw new ListenError(listenProblem(error, address), { cause: error });
  }
  const [bound] = app.addresses();
  if (typeof bound !== 'object')
    throw new ListenError(`The health server has no address on ${host}:${port}.`);
  return bound;
}

/** Why an address cannot be listened on, as a sentence that says what to change. */
export function listenProblem(
  error: unknown,
  { host, port, portVariable = 'the health port' }: ListenAddress,
): string {
  const code = error instanceof Error && 'code' in error ? error.code : 'unknown error';
  if (code === 'EADDRINUSE') {
    return `Port ${port} on ${host} is in use by another program: stop it, or set ${portVariable} to a free port.`;
  }
  if (code === 'EACCES') {
    return `Port ${port} on ${host} may not be used by this user: set ${portVariable} to a port above 1023.`;
  }
  return `The health server cannot listen on ${host}:${port} (${code}): set HEALTH_HOST to an address of this machine.`;
}
