import { expect, test } from 'vitest';
import { readHttp } from '../../../src/monitor/checks/http.ts';
import type { RelayUrl } from '../../../src/network/url.ts';
import { connectRelay } from '../../../src/relay-client/connection.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import { acceptance, startRawServer } from '../../network/raw-server.ts';

test('readHttp returns the headers that identify the server, and no others', () => {
  const headers = {
    ...{
      server: 'nginx/1.25',
      'x-powered-by': ' Express ',
      via: '1.1 Caddy',
      upgrade: 'websocket',
    },
    ...{ date: 'Sun, 06 Nov 1994 08:49:37 GMT', 'cf-ray': '8c' },
  };
  expect(readHttp(headers)).toEqual({
    server: 'nginx/1.25',
    poweredBy: 'Express',
    via: '1.1 Caddy',
  });
  expect(readHttp({ server: '  ' })).toEqual({ server: null, poweredBy: null, via: null });
});

test('readHttp bounds long headers, and drops characters that cannot be stored', async () => {
  const server = await startRawServer(async (socket) => {
    const accepted = (await acceptance(socket)).toString('latin1').trimEnd();
    const lines = [
      `Server: ${'x'.repeat(9000)}`,
      'X-Powered-By: tab\there \u0085\u00ff',
      ...Array.from({ length: 50 }, (_, index) => `Via: 1.1 proxy-${index}`),
    ];
    socket.write(Buffer.from(`${accepted}\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1'));
  });
  try {
    const url = `ws://127.0.0.1:${server.port}` as RelayUrl;
    const connection = await connectRelay(url, probeContext());
    const found = readHttp(connection.upgrade?.headers ?? {});
    connection.close();
    expect(found.server).toBe('x'.repeat(200));
    expect(found.poweredBy).toBe('tab\ufffdhere \ufffdÿ');
    expect(found.via).toHaveLength(200);
  } finally {
    await server.close();
  }
});
