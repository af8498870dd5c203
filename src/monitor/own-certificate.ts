/** The certificate under which others reach the API: until when it is valid. */

import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import type { Service } from '../runtime/service.ts';

/** How often it is read, in milliseconds. */
const READ_MS = 3_600_000;
/** The same after a failure. */
const READ_AGAIN_MS = 60_000;
const CONNECT_MS = 10_000;

/**
 * Reads it until the service stops. Never rejects. While it cannot be read its metric keeps the latest value.
 *
 * @param url an https URL of the API
 */
export async function watchCertificate(
  url: string,
  {
    log,
    metrics,
    signal,
  }: Pick<Service, 'log' | 'signal'> & {
    readonly metrics: Pick<Service['metrics'], 'certificateExpires'>;
  },
): Promise<void> {
  const { hostname: host } = new URL(url);
  while (!signal.aborted) {
    const expiresAt = await certificateExpiry(url).catch((err: Error) => {
      log.warn({ host, reason: err.message }, 'our certificate cannot be read');
      return null;
    });
    if (expiresAt !== null) metrics.certificateExpires(host, expiresAt);
    const pauseMs = expiresAt === null ? READ_AGAIN_MS : READ_MS;
    await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {});
  }
}

/** Until when the certificate of a server is valid, Unix seconds, whether or not anybody trusts it. @throws an error of the connection */
export function certificateExpiry(url: string): Promise<number> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const socket = connect({
      ...{ host, port: Number(port || 443), timeout: CONNECT_MS },
      ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
      rejectUnauthorized: false, // nothing is sent, and what is not valid has to be seen too
    });
    socket.once('error', reject);
    socket.once('timeout', () => socket.destroy(new Error(`no answer in ${CONNECT_MS / 1000} s`)));
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate();
      socket.destroy();
      if (certificate) resolve(Date.parse(certificate.validTo) / 1000);
      else reject(new Error('the server shows no certificate'));
    });
  });
}
