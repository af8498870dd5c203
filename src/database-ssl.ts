import type { ConnectionOptions } from 'node:tls';
import type { DatabaseConfig } from './config.ts';

/**
 * What pg is to do about TLS: libpq's modes (PostgreSQL chapter 34.19). A Unix socket is never encrypted, as in libpq.
 */
export function sslOptions({ host, ssl }: DatabaseConfig): false | ConnectionOptions {
  if (!ssl || ssl.mode === 'disable' || host.startsWith('/')) return false;
  // As in libpq: with an authority at hand `require` checks the certificate too.
  if (ssl.mode === 'require' && ssl.ca === null) return { rejectUnauthorized: false };
  const ca = ssl.ca === null ? {} : { ca: ssl.ca };
  const checked = { ...ca, rejectUnauthorized: true }; // whatever NODE_TLS_REJECT_UNAUTHORIZED says
  return ssl.mode === 'verify-full'
    ? checked
    : { ...checked, checkServerIdentity: () => undefined };
}
