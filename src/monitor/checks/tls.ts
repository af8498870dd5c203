import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { withDeadline } from '../../network/deadline.ts';
import { asRelayError, RelayError } from '../../network/relay-error.ts';
import { openSocket } from '../../network/transport.ts';
import type { RelayUrl } from '../../network/url.ts';
import type { TlsData } from '../../nostr/check-result.ts';
import { plainText } from '../../nostr/message.ts';
import { type CheckContext, CheckError } from './context.ts';

/** Maximum number of names kept of one certificate; those of shared hosts have a hundred. */
const MAX_NAMES = 100;

/**
 * Reads the certificate and the parameters of an open connection.
 *
 * @throws CheckError `no_tls` when the connection is not encrypted, `certificate` when the certificate cannot be read
 */
export function readTls(socket: Socket): TlsData {
  if (!(socket instanceof TLSSocket)) throw new CheckError('no_tls');
  const certificate = socket.getPeerX509Certificate();
  if (!certificate) throw new CheckError('certificate');
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
 * Reads a refused certificate over another connection. Nothing is sent over it, because the other end is not
 * authenticated. The address guard applies.
 *
 * @throws CheckError with the reasons of `readTls`, RelayError with those of `connectRelay`
 */
export async function inspectTls(
  url: RelayUrl,
  ctx: CheckContext,
  timeoutMs: number,
): Promise<TlsData> {
  const { signal } = ctx;
  const timeout = new RelayError('timeout', `${url} did not show a certificate in ${timeoutMs} ms`);
  const tls = { rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] };
  const socket = await withDeadline({ timeoutMs, timeout, signal }, (ended) =>
    openSocket(url, { ...ctx, timeoutMs }, ended, tls),
  ).catch((error: unknown) => {
    throw asRelayError(error, url, signal);
  });
  try {
    return readTls(socket);
  } finally {
    socket.destroy();
  }
}

/** `authorizationError` is declared as an Error, but is the code of OpenSSL or of Node's check of the host name. */
function problemOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : error;
  return typeof code === 'string' && code !== '' ? plainText(code) : 'UNKNOWN';
}

/** The first of these parts in a name with one part a line, such as `CN=relay.example.com`. */
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
  if (Number.isNaN(time)) throw new CheckError('certificate');
  return Math.floor(time / 1000);
}

/** `DNS:a.example, IP Address:192.0.2.1`; a value with special characters is quoted as a JSON string. */
const ALTERNATIVE_NAME = /(?:DNS|IP Address):("(?:[^"\\]|\\.)*"|[^,]*)/g;

function alternativeNames({ subjectAltName }: X509Certificate): string[] {
  const names = [...(subjectAltName ?? '').matchAll(ALTERNATIVE_NAME)].map(([, value = '']) =>
    plainText(value.startsWith('"') ? value.slice(1, -1) : value),
  );
  return [...new Set(names)].sort().slice(0, MAX_NAMES);
}
