import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyInstance, FastifyReply, FastifySchema } from 'fastify';

/** The page for people: files of src/serve/page, which ask the API. All are read once; there is no path to others. */

const FOLDER = fileURLToPath(new URL('../../page/', import.meta.url));
const TYPES: Readonly<Record<string, string>> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
};
/** The paths of the views; `main.js` has the same. */
const VIEWS = ['/', '/relays', '/relay', '/events', '/event', '/author', '/figures', '/search'];
const HASH_LENGTH = 16;
const YEAR = 365 * 86_400;

interface PageFile {
  readonly path: string;
  readonly type: string;
  readonly content: string;
}

/** The files of the page, and those of its package. */
function pageFiles(): PageFile[] {
  const names = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' });
  const own = names.flatMap((name) => {
    const type = TYPES[extname(name)];
    const path = name.replaceAll('\\', '/');
    return type ? [{ path, type, content: readFileSync(join(FOLDER, name), 'utf8') }] : [];
  });
  return [...own, uplotFile('uPlot.esm.js', 'uplot.js'), uplotFile('uPlot.min.css', 'uplot.css')];
}

/** A file of the package that draws plots, under the name that the page has for it. */
function uplotFile(name: string, path: string): PageFile {
  const file = createRequire(import.meta.url).resolve(`uplot/dist/${name}`);
  return { path, type: TYPES[extname(path)] ?? '', content: readFileSync(file, 'utf8') };
}

/**
 * GET / and the other views, which are one document, and /page/{hash}/… with its files. The hash is that of all files, so
 * that browsers keep them for good and never mix those of two versions.
 */
export function addPageRoutes(api: FastifyInstance): void {
  const files = pageFiles();
  const document = readFileSync(join(FOLDER, 'index.html'), 'utf8');
  const all = [document, ...files.map(({ path, content }) => `${path}\n${content}`)].join('\n');
  const hash = createHash('sha256').update(all).digest('hex').slice(0, HASH_LENGTH);
  const html = document.replaceAll('"/page/', `"/page/${hash}/`);
  const options = {
    schema: { hide: true } as FastifySchema,
    config: { rateLimit: false as const, measuredAs: 'page' }, // of a view dozens are asked for, and they come from memory
  };
  for (const view of VIEWS)
    api.get(view, options, async (_request, reply: FastifyReply) => {
      reply.header('cache-control', 'no-cache').header('etag', `W/"${hash}"`);
      return reply.type('text/html; charset=utf-8').send(html);
    });
  for (const { path, type, content } of files)
    api.get(`/page/${hash}/${path}`, options, async (_request, reply: FastifyReply) => {
      reply.header('cache-control', `public, max-age=${YEAR}, immutable`);
      return reply.type(type).send(content);
    });
}
