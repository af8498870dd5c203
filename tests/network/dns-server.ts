import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv4 } from 'node:net';

export type RecordType = 'A' | 'AAAA' | 'CNAME' | 'NS' | 'PTR';

/** One record of an answer; `data` is an address or a name. */
export interface DnsRecord {
  readonly type: RecordType;
  readonly data: string;
  /** Seconds; 300 unless told. */
  readonly ttl?: number;
}

/** What is answered to one question: records, a code of failure (RFC 1035 4.1.1), raw bytes after the id, or nothing. */
export type DnsAnswer = readonly DnsRecord[] | 'servfail' | 'refused' | 'silent' | Buffer;

/** By name and type, as `relay.test A`; what is not here does not exist, by name, or has no data, by type. */
export type Zone = Readonly<Record<string, DnsAnswer>>;

const TYPES: Readonly<Record<RecordType, number>> = { A: 1, NS: 2, CNAME: 5, PTR: 12, AAAA: 28 };
const NAMES = new Map(Object.entries(TYPES).map(([name, number]) => [number, name as RecordType]));
const CODES = { ok: 0, servfail: 2, nxdomain: 3, refused: 5 } as const;

/** A name server on 127.0.0.1, over UDP. */
export interface DnsServer {
  /** As `Resolver.setServers()` takes it. */
  readonly address: string;
  /** Every question so far, as `relay.test A`, in order. */
  readonly questions: readonly string[];
  zone: Zone;
  stop(): Promise<void>;
}

export async function startDnsServer(zone: Zone = {}): Promise<DnsServer> {
  const socket = createSocket('udp4');
  const questions: string[] = [];
  const server = { zone };
  socket.on('message', (query, from) => answer(socket, query, from, server, questions));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return Object.assign(server, {
    address: `127.0.0.1:${socket.address().port}`,
    questions,
    stop: async () => {
      socket.close();
      await once(socket, 'close');
    },
  });
}

function answer(
  socket: Socket,
  query: Buffer,
  from: RemoteInfo,
  { zone }: { readonly zone: Zone },
  questions: string[],
): void {
  const { name, type, end } = questionOf(query);
  const question = `${name} ${NAMES.get(type) ?? type}`;
  questions.push(question);
  const given = zone[question];
  if (given === 'silent') return;
  const isKnown = Object.keys(zone).some((key) => key.startsWith(`${name} `));
  const reply = Buffer.isBuffer(given)
    ? Buffer.concat([query.subarray(0, 2), given])
    : replyTo(query.subarray(0, end), given ?? (isKnown ? [] : 'nxdomain'));
  socket.send(reply, from.port, from.address);
}

/** The name and type that a query asks for, and where its question ends (RFC 1035, 4.1.2). */
export function questionOf(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return {
    name: labels.join('.').toLowerCase(),
    type: query.readUInt16BE(at + 1),
    end: at + 5,
  };
}

function replyTo(
  question: Buffer,
  given: readonly DnsRecord[] | 'servfail' | 'refused' | 'nxdomain',
): Buffer {
  const records = typeof given === 'string' ? [] : given;
  const header = Buffer.from(question);
  header.writeUInt16BE(0x8180 | CODES[typeof given === 'string' ? given : 'ok'], 2); // answer, recursion
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  header.writeUInt32BE(0, 8);
  // Every record is of the name that was asked: a pointer to it. An address behind an alias is of the alias.
  const alias = records.find(({ type }) => type === 'CNAME');
  const owner = (record: DnsRecord) =>
    alias && record !== alias ? nameBytes(alias.data) : Buffer.from([0xc0, 12]);
  return Buffer.concat([header, ...records.map((record) => recordBytes(record, owner(record)))]);
}

function recordBytes(record: DnsRecord, owner: Buffer): Buffer {
  const data = dataOf(record);
  const head = Buffer.alloc(10);
  head.writeUInt16BE(TYPES[record.type], 0);
  head.writeUInt16BE(1, 2); // class IN
  head.writeUInt32BE(record.ttl ?? 300, 4);
  head.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, head, data]);
}

function dataOf({ type, data }: DnsRecord): Buffer {
  if (type === 'A' && isIPv4(data)) return Buffer.from(data.split('.').map(Number));
  return type === 'AAAA' ? ipv6Bytes(data) : nameBytes(data);
}

function nameBytes(name: string): Buffer {
  const labels = name
    .split('.')
    .map((label) => Buffer.from(label, 'latin1'))
    .flatMap((label) => [Buffer.from([label.length]), label]);
  return Buffer.concat([...labels, Buffer.from([0])]);
}

function ipv6Bytes(address: string): Buffer {
  const [head = '', tail = ''] = address.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':'));
  const zeros = 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array<string>(zeros).fill('0'), ...groups(tail)];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}
