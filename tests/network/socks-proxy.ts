import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** What a client asked the proxy for, the name as it was sent. */
export interface SocksRequest {
  readonly host: string;
  readonly port: number;
  /** Null when the client did not log in. */
  readonly user: string | null;
}

export interface SocksProxyOptions {
  /** The code of the answer to a request without a target (RFC 1928 section 6); null: none comes. 4 unless told. */
  readonly refusal?: (request: SocksRequest) => number | null;
  /** The port on loopback that a request is led to. Null or not given: the proxy answers "host unreachable". */
  readonly target?: (request: SocksRequest) => number | null;
  /** Accepts connections and never says a word. */
  readonly silent?: boolean;
}

export interface SocksProxy {
  readonly host: string;
  readonly port: number;
  readonly requests: SocksRequest[];
  /** Connections of clients that are open now. */
  openSockets(): number;
  /** Cuts all connections, and those that come after: a process that is being killed while its port is still open. */
  die(): void;
  close(): Promise<void>;
}

/** Starts a SOCKS5 proxy on loopback (RFC 1928, RFC 1929): CONNECT only, any user name is let in. */
export async function startSocksProxy(options: SocksProxyOptions = {}): Promise<SocksProxy> {
  const requests: SocksRequest[] = [];
  const sockets = new Set<Socket>();
  let isDying = false;
  const server = createServer((client) => {
    if (isDying) return void client.destroy();
    sockets.add(client);
    client.on('close', () => sockets.delete(client));
    client.on('error', () => client.destroy());
    if (options.silent) client.resume();
    else serve(client, options, requests).catch(() => client.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    host: '127.0.0.1',
    port,
    requests,
    openSockets: () => sockets.size,
    die: () => {
      isDying = true;
      for (const socket of sockets) socket.destroy();
    },
    close: async () => {
      if (!server.listening) return; // closed already
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

const GRANTED = 0;
const HOST_UNREACHABLE = 4;

async function serve(
  client: Socket,
  { target, refusal = () => HOST_UNREACHABLE }: SocksProxyOptions,
  requests: SocksRequest[],
): Promise<void> {
  const user = await greet(client);
  const request = { ...(await readRequest(client)), user };
  requests.push(request);
  const port = target?.(request) ?? null;
  if (port === null) {
    const code = refusal(request);
    if (code === null) client.resume();
    else client.end(reply(code));
    return;
  }
  const upstream = connect({ host: '127.0.0.1', port });
  upstream.on('error', () => client.destroy());
  upstream.on('close', () => client.destroy());
  client.on('close', () => upstream.destroy());
  await once(upstream, 'connect');
  client.write(reply(GRANTED));
  client.pipe(upstream).pipe(client);
}

/** Asks for a user name where the client offers one. */
async function greet(client: Socket): Promise<string | null> {
  const [, methodCount = 0] = await take(client, 2);
  const methods = await take(client, methodCount);
  if (!methods.includes(2)) {
    client.write(Buffer.from([5, 0]));
    return null;
  }
  client.write(Buffer.from([5, 2]));
  const [, userLength = 0] = await take(client, 2);
  const user = await take(client, userLength);
  const [passwordLength = 0] = await take(client, 1);
  await take(client, passwordLength);
  client.write(Buffer.from([1, 0]));
  return user.toString();
}

async function readRequest(client: Socket): Promise<{ host: string; port: number }> {
  const [, , , type] = await take(client, 4);
  const host = await readHost(client, type);
  return { host, port: (await take(client, 2)).readUInt16BE(0) };
}

async function readHost(client: Socket, type: number | undefined): Promise<string> {
  if (type === 1) return (await take(client, 4)).join('.');
  const [length = 0] = await take(client, 1);
  return (await take(client, length)).toString();
}

function reply(code: number): Buffer {
  return Buffer.from([5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
}

async function take(socket: Socket, length: number): Promise<Buffer> {
  if (length === 0) return Buffer.alloc(0);
  for (;;) {
    const bytes: Buffer | null = socket.read(length);
    if (bytes) return bytes;
    await once(socket, 'readable');
  }
}
