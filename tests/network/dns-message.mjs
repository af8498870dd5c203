/** DNS messages (RFC 1035) with one question, for programs that run uncompiled, inside network namespaces. */
import { isIPv6 } from 'node:net';

const A = 1;
const AAAA = 28;

/** The name and type that a query asks for, and where its question ends (RFC 1035, 4.1.2). */
export function questionOf(query) {
  const labels = [];
  let at = 12;
  for (let length = query[at]; length > 0; length = query[at]) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

/** The reply with those addresses that are of the type of the question; null: there is no such name. */
export function addressReply(query, addresses, ttl) {
  const { type, end } = questionOf(query);
  const fitting = (addresses ?? []).filter((each) => type === (isIPv6(each) ? AAAA : A));
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(addresses ? 0x8180 : 0x8183, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(fitting.length, 6);
  const records = fitting.map((address) => recordOf(address, ttl));
  return Buffer.concat([header, query.subarray(12, end), ...records]);
}

function recordOf(address, ttl) {
  const bytes = isIPv6(address) ? ipv6Bytes(address) : Buffer.from(address.split('.').map(Number));
  const type = bytes.length === 16 ? AAAA : A;
  const head = Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, ttl, 0, bytes.length]);
  return Buffer.concat([head, bytes]);
}

function ipv6Bytes(address) {
  const [left = '', right = ''] = address.split('::');
  const groups = (part) => (part === '' ? [] : part.split(':'));
  const zeros = 8 - groups(left).length - groups(right).length;
  const all = [...groups(left), ...Array(zeros).fill('0'), ...groups(right)];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}
