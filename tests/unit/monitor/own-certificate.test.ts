import { createServer } from 'node:tls';
import { pino } from 'pino';
import { expect, test, vi } from 'vitest';
import { watchCertificate } from '../../../src/monitor/own-certificate.ts';
import { makeCertificate } from '../../network/certificates.ts';
import { listenOnLoopback } from '../../network/loopback.ts';

test('is read whether or not it is valid; a server that is away leaves what is known', async ({
  onTestFinished,
}) => {
  const notAfter = new Date('2026-11-01T00:00:00Z');
  const { certificate: cert, key } = makeCertificate({ notAfter, names: ['example.com'] });
  const server = createServer({ cert, key });
  const port = await listenOnLoopback(server);
  onTestFinished(() => void server.close());
  const stop = new AbortController();
  const found: unknown[] = [];
  const reasons: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => void reasons.push(JSON.parse(line).msg) });
  const metrics = { certificateExpires: (...given: unknown[]) => void found.push(given) };
  const watching = [`https://127.0.0.1:${port}`, 'https://127.0.0.1:1/'].map((url) =>
    watchCertificate(url, { log, metrics, signal: stop.signal }),
  );
  await vi.waitFor(() => expect([found.length, reasons.length]).toEqual([1, 1]));
  stop.abort();
  await Promise.all(watching);
  expect(found).toEqual([['127.0.0.1', notAfter.getTime() / 1000]]);
  expect(reasons).toEqual(['our certificate cannot be read']);
});
