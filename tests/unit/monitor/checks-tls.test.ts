import { X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { inspectTls } from '../../../src/monitor/checks/tls.ts';
import { type ProbeContext, probeRelay } from '../../../src/monitor/probe.ts';
import type { RelayUrl } from '../../../src/network/url.ts';
import type { CheckName } from '../../../src/nostr/check-result.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import { type Certificate, makeCertificate } from '../../network/certificates.ts';
import { type RawServer, startRawServer } from '../../network/raw-server.ts';
import { startTlsFront, type TlsFront } from '../../network/tls-front.ts';
import { type ScriptedRelay, startScriptedRelay } from '../../relay/scripted-relay.ts';

const DAY = 86_400_000;
const authority = makeCertificate({ subject: 'O=Test Authority', names: [], isAuthority: true });
const issued = (options: Parameters<typeof makeCertificate>[0] = {}) =>
  makeCertificate({ issuer: authority, ...options });
const ALL: readonly CheckName[] = ['open', 'read', 'nip11', 'tls', 'http', 'net'];

let relay: ScriptedRelay;
const cleanups: (() => Promise<void>)[] = [];

beforeAll(async () => {
  relay = await startScriptedRelay();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => relay.stop());

async function front(
  certificate: Certificate,
  port: number | null = relay.port,
): Promise<TlsFront> {
  const started = await startTlsFront(certificate, port);
  cleanups.push(() => started.stop());
  return started;
}

const urlOf = ({ port }: { port: number }, host = 'localhost') =>
  `wss://${host}:${port}` as RelayUrl;

function probe(server: { port: number }, changes: Partial<ProbeContext> = {}, host?: string) {
  const context = probeContext({
    selected: new Set(ALL),
    ca: authority.certificate,
    ...changes,
  });
  return probeRelay({ url: urlOf(server, host), network: 'clearnet' }, context);
}

describe('certificate of a relay', () => {
  test('is read from the handshake of the WebSocket if it is valid: two connections in all', async () => {
    const notAfter = new Date(Math.floor(Date.now() / 1000) * 1000 + 20 * DAY);
    const certificate = issued({ names: ['localhost', '127.0.0.1', 'a.test'], notAfter });
    const server = await front(certificate);
    const { checks, nip66 } = await probe(server);
    expect(nip66).toMatchObject({ openable: true, readable: true });
    expect(checks.tls).toEqual({
      success: true,
      durationMs: expect.any(Number),
      data: {
        valid: true,
        problem: null,
        issuer: 'Test Authority',
        subject: 'relay.test',
        notBefore: Math.floor(
          new Date(new X509Certificate(certificate.certificate).validFrom).getTime() / 1000,
        ),
        notAfter: notAfter.getTime() / 1000,
        sans: ['127.0.0.1', 'a.test', 'localhost'],
        protocol: 'TLSv1.3',
        cipher: expect.stringMatching(/^TLS_/),
        fingerprint: new X509Certificate(certificate.certificate).fingerprint256
          .replaceAll(':', '')
          .toLowerCase(),
      },
    });
    expect(checks.nip11).toMatchObject({ success: true });
    expect(server.total).toBe(2); // the WebSocket and the document
  });

  test('is valid for an address without a server name', async () => {
    const { checks } = await probe(await front(issued()), {}, '127.0.0.1');
    expect(checks.tls).toMatchObject({ data: { valid: true } });
    expect(checks.net).toMatchObject({ data: { ip: '127.0.0.1' } });
  });

  test.each<[string, string, () => Certificate]>([
    [
      'has expired',
      'CERT_HAS_EXPIRED',
      () =>
        issued({ notBefore: new Date(Date.now() - 9 * DAY), notAfter: new Date(Date.now() - DAY) }),
    ],
    [
      'is not valid yet',
      'CERT_NOT_YET_VALID',
      () => issued({ notBefore: new Date(Date.now() + DAY) }),
    ],
    ['signs itself', 'DEPTH_ZERO_SELF_SIGNED_CERT', () => makeCertificate()],
    [
      'is for another name',
      'ERR_TLS_CERT_ALTNAME_INVALID',
      () => issued({ names: ['other.test'] }),
    ],
    [
      'comes from an authority that nobody knows',
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      () =>
        makeCertificate({
          issuer: makeCertificate({ subject: 'Nobody', names: [], isAuthority: true }),
        }),
    ],
  ])('that %s is inspected: %s', async (_, problem, make) => {
    const server = await front(make());
    const { checks, nip66 } = await probe(server);
    expect(nip66).toMatchObject({ openable: false, reason: 'tls' });
    expect(checks.open).toMatchObject({ success: false, reason: 'tls' });
    expect(checks.tls).toMatchObject({
      success: true,
      data: {
        valid: false,
        problem,
        protocol: 'TLSv1.3',
        fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    });
    expect(checks.read).toBeUndefined();
    expect(checks.http).toBeUndefined();
    expect(server.total).toBe(3); // one more, to look at it
  });

  test('is not inspected at a relay without TLS', async () => {
    const address = { url: relay.url as RelayUrl, network: 'clearnet' } as const;
    const { checks } = await probeRelay(address, probeContext({ selected: new Set(ALL) }));
    expect(checks.open).toMatchObject({ success: true });
    expect(checks.tls).toBeUndefined();
  });

  test('is not inspected, without another connection, if the check is not selected', async () => {
    const server = await front(makeCertificate());
    const { checks } = await probe(server, { selected: new Set(['open', 'read']) });
    expect(checks).toEqual({ open: expect.objectContaining({ reason: 'tls' }) });
    expect(server.total).toBe(1);
  });

  test('with invalid names is read, with a bounded number of names', async () => {
    const names = Array.from({ length: 150 }, (_, index) => `n${index}.test`);
    const odd = ['localhost', 'a, DNS:b', '"quoted"', 'nul\u0000.test', ...names];
    const { checks } = await probe(
      await front(issued({ subject: 'nul\u0000\nO=forged', names: odd })),
    );
    const data = checks.tls?.success ? checks.tls.data : null;
    expect(data?.sans).toHaveLength(100);
    expect(JSON.stringify(data)).not.toContain('\\u0000');
    expect(data?.subject).not.toContain('\n');
  });
});

describe('inspectTls with a hostile server', () => {
  async function raw(...args: Parameters<typeof startRawServer>): Promise<RawServer> {
    const server = await startRawServer(...args);
    cleanups.push(() => server.close());
    return server;
  }
  const context = probeContext();

  test('fails at the deadline, and leaves no socket', async () => {
    const server = await raw((socket) => socket.resume());
    await expect(inspectTls(urlOf(server), context, 200)).rejects.toMatchObject({
      reason: 'timeout',
    });
    await expect.poll(() => server.openSockets()).toBe(0);
  });

  test('fails if the server does not speak TLS', async () => {
    const server = await raw((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await expect(inspectTls(urlOf(server), context, 5000)).rejects.toMatchObject({
      reason: expect.stringMatching(/^(tls|reset)$/),
    });
  });

  test('does not connect to a forbidden address', async () => {
    const server = await raw(() => {});
    for (const host of ['127.0.0.1', 'localhost', '[::1]']) {
      const inspecting = inspectTls(urlOf(server, host), { ...context, allowPrivate: false }, 5000);
      await expect(inspecting).rejects.toMatchObject({ reason: 'forbidden' });
    }
    expect(server.total).toBe(0);
  });

  test('stops when the signal aborts', async () => {
    const stop = new AbortController();
    const server = await raw(() => stop.abort());
    const inspecting = inspectTls(urlOf(server), { ...context, signal: stop.signal }, 60_000);
    await expect(inspecting).rejects.toMatchObject({ reason: 'aborted' });
  });
});
