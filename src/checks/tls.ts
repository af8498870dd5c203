import type { X509Certificate } from 'node:crypto';
import { isIP, type Socket } from 'node:net';
import { connect, TLSSocket } from 'node:tls';
import type { TlsData } from '../nostr/check-result.ts';
import { plainText } from '../nostr/message.ts';
import { forbiddenHost, guardedLookup } from '../relay/address.ts';
import { asRelayError } from '../relay/connection.ts';
import { deadline } from '../relay/deadline.ts';
import { dial } from '../relay/dial.ts';
import type { RelayUrl } from '../relay/url.ts';
import { type CheckContext, failure } from './context.ts';

/** Names kept of one certificate; those of shared hosts carry a hundred. */
const MAX_NAMES = 100;

/**
 * Reads the certificate and the handshake of a connection that is open. Node has checked both before it opened.
 *
 * @throws RelayError `no_tls` when there was no TLS, `certificate` when the certificate cannot be read.
 */
export function readTls(socket: Socket): TlsData {
  if (!(socket instanceof TLSSocket)) throw failure('no_tls');
  const certificate = socket.getPeerX509Certificate();
  if (!certificate) throw failure('certificate');
  const problem = socket.authorized ? null : problemOf(socket.authorizationError);
  return {
    valid: problem === null,
    problem,
    issuer: nameIn(certificate.issuer, ['O', 'CN']),
    subject: nameIn(certificate.subject, ['CN', 'O']),
    notBefore: secondsOf(certificate.validFrom),
    notAfter: secondsOf(certificate.validTo),
    sans: alternativeNames(certificate),
    protocol: socket.getProtocol(),
    cipher: socket.getCipher()?.name ?? null,
    fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
  };
}

/**
 * Looks at the certificate of a relay whose handshake was refused: one more connection, on which nothing is said,
 * since nobody knows who is at its other end. The address guard holds.
 *
 * @throws RelayError with the reasons of `connectRelay` and of `readTls`.
 */
export async function inspectTls(
  url: RelayUrl,
  ctx: CheckContext,
  timeoutMs: number,
): Promise<TlsData> {
  if (!ctx.allowPrivate && forbiddenHost(url)) throw failure('forbidden');
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  const ended = new AbortController();
  const cancel = deadline(timeoutMs, () => ended.abort(failure('timeout')));
  const onAbort = () => ended.abort(failure('aborted'));
  ctx.signal.addEventListener('abort', onAbort, { once: true });
  if (ctx.signal.aborted) onAbort();
  try {
    const lookup = guardedLookup(ctx.allowPrivate);
    const { signal } = ended;
    const plain = await dial({ host, port: Number(port) || 443, lookup, timeoutMs, signal });
    const socket = connect({
      socket: plain, // destroyed with the TLS socket
      host,
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
      ...(isIP(host) === 0 && { servername: host }),
      ...(ctx.ca !== undefined && { ca: ctx.ca }),
    });
    try {
      await secured(socket, url, signal);
      return readTls(socket);
    } finally {
      socket.destroy();
    }
  } finally {
    cancel();
    ctx.signal.removeEventListener('abort', onAbort);
  }
}

function secured(socket: TLSSocket, url: RelayUrl, ended: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (outcome: () => void) => {
      ended.removeEventListener('abort', onAbort);
      outcome();
    };
    const fail = (reason: string) => settle(() => reject(failure(reason)));
    const onAbort = () => settle(() => reject(ended.reason));
    socket.once('secureConnect', () => settle(resolve));
    socket.on('error', (error) => fail(asRelayError(error, url).reason)); // also what comes after: it is of no use
    socket.once('close', () => fail('reset'));
    ended.addEventListener('abort', onAbort, { once: true });
    if (ended.aborted) onAbort();
  });
}

/** Node declares an Error and gives the code of OpenSSL or of its own check of the name. */
function problemOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : error;
  return typeof code === 'string' && code !== '' ? plainText(code) : 'UNKNOWN';
}

/** One line for each part of the name: `CN=relay.example.com`. The first part that is there, in the order given. */
function nameIn(name: string | undefined, parts: readonly string[]): string | null {
  const lines = (name ?? '').split('\n');
  for (const part of parts) {
    const line = lines.find((text) => text.startsWith(`${part}=`));
    if (line !== undefined) return plainText(line.slice(part.length + 1));
  }
  return null;
}

function secondsOf(date: string): number {
  const time = Date.parse(date);
  if (Number.isNaN(time)) throw failure('certificate');
  return Math.floor(time / 1000);
}

/** `DNS:a.example, IP Address:192.0.2.1`; a value with odd characters stands between quotes, as a JSON string. */
const ALTERNATIVE_NAME = /(?:DNS|IP Address):("(?:[^"\\]|\\.)*"|[^,]*)/g;

function alternativeNames({ subjectAltName }: X509Certificate): string[] {
  const names = [...(subjectAltName ?? '').matchAll(ALTERNATIVE_NAME)].map(([, value = '']) =>
    plainText(value.startsWith('"') ? value.slice(1, -1) : value),
  );
  return [...new Set(names)].sort().slice(0, MAX_NAMES);
}
