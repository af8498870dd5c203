import { problemKinds, titleOf } from './problem.ts';

/** The OpenAPI document as a page: no script, and nothing from elsewhere. */

/** The parts of the document that are shown. */
interface Document {
  readonly info: {
    readonly title: string;
    readonly version: string;
    readonly description?: string;
  };
  readonly tags?: readonly { readonly name: string; readonly description?: string }[];
  readonly paths?: Readonly<Record<string, unknown>>;
}

interface Operation {
  readonly tags?: readonly string[];
  readonly summary?: string;
  readonly description?: string;
  readonly parameters?: readonly Parameter[];
  readonly responses?: Readonly<Record<string, Response>>;
  readonly 'x-example'?: string;
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly description?: string;
  readonly schema?: Schema;
}

interface Response {
  readonly description?: string;
  readonly content?: Readonly<Record<string, { readonly schema?: Schema }>>;
}

interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
}

const DEEPEST = 6;

export const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
article { border-top: 1px solid #8886; padding: .5rem 0 1rem; }
code, pre { font: .9em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .15rem .75rem .15rem 0; }
summary { cursor: pointer; }
`;

/** The page. */
export function docsPage(document: unknown): string {
  const { info, tags = [], paths = {} } = document as Document;
  const routes = Object.entries(paths).flatMap(([path, methods]) => {
    const { get } = methods as { readonly get?: Operation };
    return get ? [{ path, operation: get }] : [];
  });
  const sections = tags.map(({ name, description = '' }) => {
    const own = routes.filter(({ operation }) => operation.tags?.includes(name));
    const articles = own.map(({ path, operation }) => articleOf(path, operation)).join('');
    return `<section><h2>${text(name)}</h2><p>${text(description)}</p>${articles}</section>`;
  });
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${text(info.title)} API</title><link rel="stylesheet" href="/docs.css"></head>
<body><main>
<h1>${text(info.title)} API ${text(info.version)}</h1>
<p>${text(info.description ?? '')}</p>
<p><a href="/openapi.json">openapi.json</a></p>
${sections.join('\n')}
<section><h2>Problems</h2><p>Errors are problem details (RFC 9457).</p>${problems()}</section>
</main></body></html>
`;
}

function problems(): string {
  const rows = problemKinds.map((kind) => {
    const { status, title } = titleOf(kind);
    return `<tr id="${kind}"><td>${status}</td><td><code>${kind}</code></td><td>${text(title)}</td></tr>`;
  });
  return `<table>${rows.join('')}</table>`;
}

function articleOf(path: string, operation: Operation): string {
  const { summary = '', description = '', parameters = [], responses = {} } = operation;
  const example = operation['x-example'];
  const shown = parameters.filter(({ name }) => !/^tag\.[b-zA-Z]$/.test(name));
  const rows = shown.map(
    ({ name, schema, description: what = schema?.description ?? '' }) =>
      `<tr><td><code>${text(name === 'tag.a' ? 'tag.a … tag.Z' : name)}</code></td><td>${text(typeOf(schema))}</td><td>${text(what)}</td></tr>`,
  );
  const answer = Object.values(responses['200']?.content ?? {})[0]?.schema;
  return `<article><h3><code>GET ${text(path)}</code></h3><p><strong>${text(summary)}.</strong> ${text(description)}</p>
${example ? `<p>Example: <a href="${text(example)}"><code>${text(example)}</code></a></p>` : ''}
${rows.length > 0 ? `<table>${rows.join('')}</table>` : ''}
<details><summary>Answer</summary><pre>${text(outline(answer, 0))}</pre></details></article>`;
}

function typeOf(schema: Schema | undefined): string {
  if (!schema) return '';
  if (schema.enum) return schema.enum.join(' | ');
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(' | ');
  if (schema.items) return `${typeOf(schema.items)}[]`;
  return [schema.type ?? 'any'].flat().join(' | ');
}

/** A schema as indented lines of names, types and meanings. */
function outline(schema: Schema | undefined, depth: number): string {
  if (!schema || depth > DEEPEST) return '';
  if (schema.items) return outline(schema.items, depth);
  if (schema.anyOf) return outline(schema.anyOf[0], depth);
  return Object.entries(schema.properties ?? {})
    .map(([name, property]) => {
      const what = property.description ? `  ${property.description}` : '';
      const below = outline(property, depth + 1);
      return `${'  '.repeat(depth)}${name}: ${typeOf(property)}${what}\n${below}`;
    })
    .join('');
}

const ENTITIES: Readonly<Record<string, string>> = {
  ...{ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' },
};

function text(plain: string): string {
  return plain.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
