import type { IncomingHttpHeaders } from 'node:http';
import type { HttpData } from '../../nostr/check-result.ts';
import { plainText } from '../../nostr/message.ts';

/** Headers of the upgrade response that identify the server; headers that change with each response are left out. */
export function readHttp(headers: IncomingHttpHeaders): HttpData {
  return {
    server: textOf(headers.server),
    poweredBy: textOf(headers['x-powered-by']),
    via: textOf(headers.via),
  };
}

const MAX_LENGTH = 200;

function textOf(header: string | string[] | undefined): string | null {
  const text = [header ?? ''].flat().join(', ').trim();
  return text === '' ? null : plainText(text.slice(0, MAX_LENGTH));
}
