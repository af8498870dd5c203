import type { ConnectionOptions } from 'node:tls';
import type { DatabaseConfig } from '../config/load.ts';

/**
 * TLS options for pg by libpq's modes (PostgreSQL chapter 34.19). A Unix socket is never encrypted, as in libpq.
 */
export function sslOptions({ host, ssl }: DatabaseConfig): false | ConnectionOptions {
  if (!ssl || ssl.mode === 'disable' || host.startsWith('/')) return false;
  // As in libpq: with a configured CA `require` verifies the certificate too.
  if (ssl.mode === 'require' && ssl.ca === null) return { rejectUnauthorized: false };
  const ca = ssl.ca === null ? {} : { ca: ssl.ca };
  const checked = { ...ca, rejectUnauthorized: true }; // regardless of NODE_TLS_REJECT_UNAUTHORIZED
  return ssl.mode === 'verify-full'
    ? checked
    : { ...checked, checkServerIdentity: () => undefined };
}
