import { writeFileSync } from 'node:fs';

/** What a record of the file may hold. Whole numbers are stored as uint32, others as double. */
export type GeoipValue = string | number | boolean | { readonly [name: string]: GeoipValue };

/** IPv4 networks, as `192.0.2.0/24`, and their records. */
export type GeoipNetworks = Readonly<Record<string, GeoipValue>>;

/** Writes a database in the MaxMind format, version 2.0: a binary tree over the bits of addresses, then the records. */
export function writeGeoipFile(path: string, type: string, networks: GeoipNetworks): void {
  const tree = new Tree();
  const data: Buffer[] = [];
  let offset = 0;
  for (const [network, record] of Object.entries(networks)) {
    tree.add(network, offset);
    const bytes = encode(record);
    data.push(bytes);
    offset += bytes.length;
  }
  const metadata = encode({
    node_count: tree.size,
    record_size: 24,
    ip_version: 4,
    database_type: type,
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1_700_000_000,
    description: { en: 'of the tests' },
  });
  writeFileSync(
    path,
    Buffer.concat([
      tree.bytes(),
      Buffer.alloc(16), // the separator
      ...data,
      Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1'),
      metadata,
    ]),
  );
}

/** Nodes of two branches each: a node, a record (`data`), or nothing. */
type Branch = { readonly node: number } | { readonly data: number } | null;

class Tree {
  readonly #nodes: [Branch, Branch][] = [[null, null]];

  get size(): number {
    return this.#nodes.length;
  }

  add(network: string, data: number): void {
    const [address = '', length = ''] = network.split('/');
    const bits = address
      .split('.')
      .map((byte) => Number(byte).toString(2).padStart(8, '0'))
      .join('')
      .slice(0, Number(length));
    let at = 0;
    for (const [index, bit] of [...bits].entries()) {
      const node = this.#nodes[at];
      if (!node) throw new Error(`no node ${at}`);
      const side = bit === '1' ? 1 : 0;
      const next = node[side];
      if (index === bits.length - 1) node[side] = { data };
      else if (next && 'node' in next) at = next.node;
      else at = this.#grow(node, side);
    }
  }

  #grow(node: [Branch, Branch], side: 0 | 1): number {
    this.#nodes.push([null, null]);
    const added = this.#nodes.length - 1;
    node[side] = { node: added };
    return added;
  }

  bytes(): Buffer {
    const bytes = Buffer.alloc(this.size * 6);
    for (const [index, node] of this.#nodes.entries()) {
      for (const [side, branch] of node.entries())
        bytes.writeUIntBE(this.#valueOf(branch), index * 6 + side * 3, 3);
    }
    return bytes;
  }

  #valueOf(branch: Branch): number {
    if (branch === null) return this.size; // nothing is known
    return 'node' in branch ? branch.node : this.size + 16 + branch.data;
  }
}

/** A control byte: three bits of type, five of size; types above 7 follow in a byte of their own. */
function encode(value: GeoipValue): Buffer {
  if (typeof value === 'string') return field(2, Buffer.from(value));
  if (typeof value === 'boolean') return Buffer.from([value ? 1 : 0, 7]);
  if (typeof value === 'number') return encodeNumber(value);
  const members = Object.entries(value).flatMap(([name, member]) => [encode(name), encode(member)]);
  return Buffer.concat([control(7, members.length / 2), ...members]);
}

function encodeNumber(value: number): Buffer {
  if (Number.isInteger(value) && value >= 0) {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return field(6, bytes);
  }
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return field(3, bytes);
}

function field(type: number, content: Buffer): Buffer {
  return Buffer.concat([control(type, content.length), content]);
}

function control(type: number, size: number): Buffer {
  if (size < 29) return Buffer.from([(type << 5) | size]);
  return Buffer.from([(type << 5) | 29, size - 29]);
}
