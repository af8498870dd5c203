import {
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  X509Certificate,
} from 'node:crypto';
import { isIPv4 } from 'node:net';

/** A certificate of the tests and the key that belongs to it, as PEM. */
export interface Certificate {
  readonly certificate: string;
  readonly key: string;
}

export interface CertificateOptions {
  /** Common name; organisation where it begins with `O=`. */
  readonly subject?: string;
  /** DNS names and IPv4 addresses. */
  readonly names?: readonly string[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** May sign others. */
  readonly isAuthority?: boolean;
  /** Who signs; itself unless told. */
  readonly issuer?: Certificate;
}

const DAY = 86_400_000;

/** Makes a certificate (RFC 5280) with a fresh P-256 key, valid from yesterday for thirty days unless told. */
export function makeCertificate(options: CertificateOptions = {}): Certificate {
  const { subject = 'relay.test', names = ['localhost', '127.0.0.1'], issuer } = options;
  const { notBefore = new Date(Date.now() - DAY) } = options;
  const { notAfter = new Date(Date.now() + 30 * DAY) } = options;
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const subjectName = nameOf(subject);
  const body = sequence(
    tagged(0xa0, integer(2)), // version 3
    integer(Math.floor(Math.random() * 2 ** 31)),
    ECDSA_WITH_SHA256,
    issuer ? subjectOf(issuer) : subjectName,
    sequence(time(notBefore), time(notAfter)),
    subjectName,
    pair.publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...extensions(names, options.isAuthority ?? false))),
  );
  const signer = issuer ? createPrivateKey(issuer.key) : pair.privateKey;
  return { certificate: pem(signedBy(body, signer)), key: keyPem(pair.privateKey) };
}

function signedBy(body: Buffer, key: KeyObject): Buffer {
  const signature = sign('sha256', body, key);
  return sequence(body, ECDSA_WITH_SHA256, tagged(0x03, Buffer.from([0]), signature));
}

function extensions(names: readonly string[], isAuthority: boolean): Buffer[] {
  const alternatives = sequence(
    ...names.map((name) =>
      isIPv4(name)
        ? tagged(0x87, Buffer.from(name.split('.').map(Number)))
        : tagged(0x82, Buffer.from(name, 'latin1')),
    ),
  );
  const constraints = sequence(...(isAuthority ? [tagged(0x01, Buffer.from([0xff]))] : []));
  return [
    ...(names.length > 0 ? [sequence(oid(0x55, 0x1d, 0x11), tagged(0x04, alternatives))] : []),
    sequence(oid(0x55, 0x1d, 0x13), tagged(0x01, Buffer.from([0xff])), tagged(0x04, constraints)),
  ];
}

/** A name of one part: 2.5.4.3 is the common name, 2.5.4.10 the organisation. */
function nameOf(subject: string): Buffer {
  const isOrganisation = subject.startsWith('O=');
  const type = oid(0x55, 0x04, isOrganisation ? 0x0a : 0x03);
  const text = Buffer.from(isOrganisation ? subject.slice(2) : subject);
  return sequence(tagged(0x31, sequence(type, tagged(0x0c, text))));
}

/** The subject of a certificate as it stands in it: what it issues must repeat it to the byte. */
function subjectOf({ certificate }: Certificate): Buffer {
  const { subject } = new X509Certificate(certificate);
  return nameOf(subject.replace(/^CN=/, ''));
}

const ECDSA_WITH_SHA256 = sequence(oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02));

// DER (X.690): a tag, the length, the content.

function tagged(tag: number, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content);
  const length = body.length < 0x80 ? [body.length] : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

function sequence(...content: Buffer[]): Buffer {
  return tagged(0x30, ...content);
}

function integer(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt32BE(value, 1);
  let from = 0;
  while (from < 4 && bytes[from] === 0 && (bytes[from + 1] ?? 0) < 0x80) from += 1;
  return tagged(0x02, bytes.subarray(from));
}

function oid(...bytes: number[]): Buffer {
  return tagged(0x06, Buffer.from(bytes));
}

/** GeneralizedTime: `20260101000000Z`. */
function time(date: Date): Buffer {
  return tagged(0x18, Buffer.from(`${date.toISOString().replace(/\D/g, '').slice(0, 14)}Z`));
}

function pem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function keyPem(key: KeyObject): string {
  return String(key.export({ type: 'pkcs8', format: 'pem' }));
}
