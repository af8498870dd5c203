import type { AddressInfo } from 'node:net';
import { type FastifyInstance, type FastifyReply, fastify } from 'fastify';

export interface HealthStatus {
  readonly state: 'starting' | 'running' | 'waiting' | 'stopping';
  /** True once the service has all it needs to do its work. */
  readonly ready: boolean;
  readonly database: 'up' | 'down';
  /** While it is down: what refused the service, and with which words. */
  readonly databaseReason?: string;
  /** Whether the database takes what is archived: with a full disk it may answer and take nothing. */
  readonly storing: 'works' | 'fails';
  /** While it fails: what could not be stored last, and why. */
  readonly storingReason?: string;
  /** `no_circuit`: the proxy answers, but has no way into the Tor network. */
  readonly tor: 'up' | 'down' | 'no_circuit' | 'off';
  readonly uptimeSeconds: number;
  readonly lastRound: {
    /** ISO 8601. */
    readonly startedAt: string;
    readonly finishedAt: string;
    readonly seconds: number;
    readonly relays: number;
    readonly failed: number;
  } | null;
  readonly counts: Readonly<Record<string, number>>;
  readonly details?: Readonly<Record<string, string>>;
}

export interface HealthOptions {
  readonly service: string;
  readonly status: () => HealthStatus;
  /** The text for Prometheus. */
  readonly metrics: () => Promise<string>;
  /** Hears of errors inside a request; the client is only told that there was one. */
  readonly onError?: (error: unknown) => void;
}

/** The address could not be listened on. The message says what to change. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
const REQUEST_TIMEOUT_MS = 10_000;

/** The HTTP side of a service: GET /health, /ready and /metrics. Not listening yet. */
export function buildHealthApp(options: HealthOptions): FastifyInstance {
  const { service, status, metrics, onError } = options;
  const app = fastify({
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

  app.get('/health', (_request, reply) => {
    const now = status();
    return reply.code(codeFor(now)).send({ service, ...now });
  });
  app.get('/ready', (_request, reply) => {
    const code = codeFor(status());
    return reply.code(code).send({ service, ready: code === 200 });
  });
  app.get('/metrics', async (_request, reply) => reply.type(METRICS_TYPE).send(await metrics()));

  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).send({ error: 'not found: GET /health, /ready and /metrics are here' }),
  );
  app.setErrorHandler((error, _request, reply) => sendError(reply, error, onError));
  return app;
}

/** 503 tells an orchestrator to wait or to look elsewhere; 200 that the service does its work. */
function codeFor(status: HealthStatus): 200 | 503 {
  const { ready, database, storing, state } = status;
  return ready && database === 'up' && storing === 'works' && state !== 'stopping' ? 200 : 503;
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

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
  /** The variable that sets the port, such as `MONITOR_HEALTH_PORT`. */
  readonly portVariable?: string;
}

/**
 * Listens and gives back the address taken (port 0 takes a free one).
 * @throws ListenError when the port is in use or the address is not ours to take.
 */
export async function listenHealth(
  app: FastifyInstance,
  address: ListenAddress,
): Promise<AddressInfo> {
  const { host, port } = address;
  try {
    await app.listen({ host, port });
  } catch (error) {
    throw new ListenError(explain(error, address), { cause: error });
  }
  const [bound] = app.addresses();
  if (typeof bound !== 'object')
    throw new ListenError(`The health server has no address on ${host}:${port}.`);
  return bound;
}

function explain(error: unknown, { host, port, portVariable = 'the health port' }: ListenAddress) {
  const code = error instanceof Error && 'code' in error ? error.code : 'unknown error';
  if (code === 'EADDRINUSE') {
    return `Port ${port} on ${host} is in use by another program: stop it, or set ${portVariable} to a free port.`;
  }
  if (code === 'EACCES') {
    return `Port ${port} on ${host} may not be used by this user: set ${portVariable} to a port above 1023.`;
  }
  return `The health server cannot listen on ${host}:${port} (${code}): set HEALTH_HOST to an address of this machine.`;
}
