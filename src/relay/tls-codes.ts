/** Codes of Node.js and OpenSSL for a TLS handshake that failed, or a certificate that is not accepted. */
const TLS_CODES =
  /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH|EPROTO$)/;

/** Whether it was TLS that failed with this code of an error. */
export function isTlsCode(code: string): boolean {
  return TLS_CODES.test(code);
}
