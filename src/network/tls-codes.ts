/** Codes of Node.js and OpenSSL for a failed TLS handshake or a refused certificate. */
const TLS_CODES =
  /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH|EPROTO$)/;

/** Whether an error with this code is a failure of TLS. */
export function isTlsCode(code: string): boolean {
  return TLS_CODES.test(code);
}
