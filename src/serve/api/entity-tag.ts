import { createHash } from 'node:crypto';
import type { FastifyInstance } from 'fastify';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** For how long caches may give an answer again, in seconds; 0 or absent: not without asking. */
    readonly maxAge?: number;
    /** A path that shows what the route does. */
    readonly example?: string;
    /** What metrics call the route; its pattern unless told. */
    readonly measuredAs?: string;
  }
}

const LENGTH = 22;
/** Where the last member of an answer begins. Within a string of JSON its quotes are escaped. */
const META = ',"meta":';

/**
 * Adds `ETag` and `Cache-Control` to answers of routes with `maxAge`, and answers 304 to `If-None-Match`. The tag is weak
 * and of the text before `meta`, which has the time: another one in each answer.
 */
export function addEntityTags(api: FastifyInstance): void {
  api.addHook('onSend', (request, reply, payload, done) => {
    const { maxAge } = request.routeOptions.config;
    if (maxAge !== undefined && reply.statusCode === 200 && typeof payload === 'string') {
      reply.header('etag', tagOf(payload));
      reply.header('cache-control', maxAge > 0 ? `public, max-age=${maxAge}` : 'no-cache');
    }
    const tag = reply.getHeader('etag');
    if (typeof tag !== 'string' || !matches(request.headers['if-none-match'], tag))
      return done(null, payload);
    reply.code(304).removeHeader('content-type').removeHeader('content-length');
    return done(null, '');
  });
}

/** The tag of an answer. @param text JSON whose last member is `meta` */
export function tagOf(text: string): string {
  const data = text.slice(0, text.lastIndexOf(META));
  const hash = createHash('sha256').update(data).digest('base64url');
  return `W/"${hash.slice(0, LENGTH)}"`;
}

function matches(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  const strong = tag.slice(2);
  return header.split(',').some((part) => isSame(part.trim(), strong));
}

/** Compared weakly (RFC 9110, 8.8.3.2). */
function isSame(given: string, strong: string): boolean {
  return given === '*' || given === strong || given === `W/${strong}`;
}
