import compress from '@fastify/compress';
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import swagger from '@fastify/swagger';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import { addHealthRoutes, type HealthOptions } from '../../telemetry/health.ts';
import { answerCompiler, requestCompiler } from './compilers.ts';
import type { Context } from './context.ts';
import { addDocs, describeRoute, openApiInfo } from './docs.ts';
import { addEntityTags } from './entity-tag.ts';
import { PROBLEM_TYPE, Problem } from './problem.ts';
import { problemOf } from './problem-of.ts';
import { addAuthorRoutes } from './routes/authors.ts';
import { addChangesRoutes } from './routes/changes.ts';
import { addEventRoutes } from './routes/events.ts';
import { addPageRoutes } from './routes/page.ts';
import { addRelayRoutes } from './routes/relay.ts';
import { addRelayListRoute } from './routes/relays.ts';
import { addStatRoutes } from './routes/stats.ts';
import { addStatusRoutes } from './routes/status.ts';

/** A request has to arrive within this, in milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
/** A connection on which nothing moves is closed, in milliseconds: the client has gone, or takes nothing. */
const IDLE_TIMEOUT_MS = 60_000;
/** Longest URL, in bytes; Node.js takes 16 KiB for all headers together. */
const MAX_URL_BYTES = 8192;
/** A relay URL of 255 bytes, each of them percent-encoded. */
const MAX_PARAM_LENGTH = 800;
const SUBJECTS = 'coverage|uptime|checks|figures|offences';
const PLAIN_RELAY = new RegExp(`^/v1/relays/(wss?:/.*?)(/(?:${SUBJECTS}))?/?(\\?.*)?$`, 'i');

export interface ApiOptions extends Pick<HealthOptions, 'service' | 'status' | 'metrics'> {
  readonly context: Context;
  readonly version: string;
  /** Time for the statements of one answer, in milliseconds. */
  readonly timeoutMs: number;
  /** Requests of a client a minute; 0: not limited. */
  readonly rateLimit: number;
  /** Origins of pages that may read answers; empty: none but our own. */
  readonly corsOrigins: readonly string[];
  readonly trustedProxies: readonly string[];
  /** Receives errors that are ours. */
  readonly onError: (error: unknown) => void;
  /** Called when an answer has ended. @param route its pattern, `unknown` where there is none @param seconds */
  readonly onAnswered?: (route: string, status: number, seconds: number) => void;
}

/** The HTTP server of the API: /health, /ready, /metrics, /v1/…, /openapi.json, /docs and the page. Not listening yet. */
export async function buildApi(options: ApiOptions): Promise<FastifyInstance> {
  const { trustedProxies, onError } = options;
  const app = fastify({
    logger: false,
    forceCloseConnections: true,
    exposeHeadRoutes: false, // HEAD would make the whole answer, streams too
    bodyLimit: 1024,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: IDLE_TIMEOUT_MS,
    trustProxy: trustedProxies.length > 0 && [...trustedProxies],
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH, ignoreTrailingSlash: true },
    rewriteUrl: ({ url = '/' }) => encodeRelay(url),
    frameworkErrors: (error, _request, reply: FastifyReply) => {
      sendProblem(reply, problemOf(error, onError));
    },
  });
  app.setValidatorCompiler(requestCompiler);
  app.setSerializerCompiler(answerCompiler);
  app.setErrorHandler((error, _request, reply) => sendProblem(reply, problemOf(error, onError)));
  app.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'no-store');
    if (Buffer.byteLength(request.raw.url ?? '') > MAX_URL_BYTES)
      throw new Problem('uri-too-long', `The URL may have ${MAX_URL_BYTES} bytes: ask for less.`);
  });
  addMeasurement(app, options);
  app.setNotFoundHandler((request, reply) => sendProblem(reply, notFound(request)));
  addHealthRoutes(app, options); // before the rate limit, which they do not have
  await addProtection(app, options);
  await app.register(async (api) => addRoutes(api, options));
  return app;
}

/** Reports each answer by the pattern of its route: paths are without number, and would each be a time series. */
function addMeasurement(app: FastifyInstance, { onAnswered }: ApiOptions): void {
  if (!onAnswered) return;
  app.addHook('onRequest', async (request, reply) => {
    const { url, config } = request.routeOptions;
    const begun = performance.now();
    // 'close' also comes where the client goes before the end: hooks of the framework do not.
    reply.raw.once('close', () =>
      onAnswered(
        config?.measuredAs ?? url ?? 'unknown',
        reply.statusCode,
        (performance.now() - begun) / 1000,
      ),
    );
  });
}

/** A relay URL may stand in the path as it is: its slashes and colons are encoded for the router. */
function encodeRelay(url: string): string {
  const [, relay, subject = '', query = ''] = PLAIN_RELAY.exec(url) ?? [];
  if (relay === undefined) return url;
  return `/v1/relays/${relay.replace(/[:/]/g, encodeURIComponent)}${subject}${query}`;
}

/** Headers for browsers, and who may ask how much. */
async function addProtection(
  app: FastifyInstance,
  { corsOrigins, rateLimit: most }: ApiOptions,
): Promise<void> {
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'"],
        connectSrc: ["'self'"],
        baseUri: ["'none'"],
        formAction: ["'self'"],
        frameAncestors: ["'none'"],
        requireTrustedTypesFor: ["'script'"],
        trustedTypes: ["'none'"],
      },
    },
    crossOriginResourcePolicy: { policy: corsOrigins.length > 0 ? 'cross-origin' : 'same-origin' },
    referrerPolicy: { policy: 'no-referrer' },
    strictTransportSecurity: false, // for the proxy that speaks TLS
  });
  if (corsOrigins.length > 0)
    await app.register(cors, {
      origin: corsOrigins.includes('*') ? '*' : [...corsOrigins],
      methods: ['GET'],
      exposedHeaders: ['archive-as-of', 'archive-coverage', 'etag', 'retry-after'],
    });
  if (most > 0)
    await app.register(rateLimit, {
      max: most,
      timeWindow: '1 minute',
      errorResponseBuilder: (_request, { max, ttl }) =>
        new Problem('too-many-requests', `A client may send ${max} requests a minute.`, {
          retryAfter: Math.ceil(ttl / 1000),
        }),
    });
}

async function addRoutes(
  api: FastifyInstance,
  { context, version, timeoutMs }: ApiOptions,
): Promise<void> {
  await api.register(compress, {
    encodings: ['gzip'],
    threshold: 1024,
    customTypes:
      /^(application\/(problem\+)?(x-nd)?json|text\/(csv|html|css|javascript)|image\/svg)/,
  });
  await api.register(swagger, {
    openapi: { openapi: '3.1.0', ...openApiInfo(version) },
    transform: describeRoute,
  });
  addEntityTags(api);
  addStatusRoutes(api, context);
  addRelayListRoute(api, context);
  addRelayRoutes(api, context);
  addEventRoutes(api, context, timeoutMs);
  addChangesRoutes(api, context);
  addAuthorRoutes(api, context);
  addStatRoutes(api, context);
  addDocs(api);
  addPageRoutes(api);
}

function notFound({ method, url }: FastifyRequest): Problem {
  const path = url.slice(0, 100);
  return new Problem(
    'not-found',
    method === 'GET'
      ? `${path} is not a path of this API: /docs has them all.`
      : `${method} is not answered: everything here is read by GET.`,
  );
}

function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.retryAfter !== undefined) reply.header('retry-after', problem.retryAfter);
  reply.header('cache-control', 'no-store');
  reply.code(problem.status).type(PROBLEM_TYPE);
  return reply.serializer(JSON.stringify).send(problem.details());
}
