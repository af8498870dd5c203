/** A frame that is no proper answer: text or binary for the WebSocket layer, or bytes written past it. */
export type Frame =
  | { readonly text: string | Buffer }
  | { readonly binary: Buffer }
  | { readonly tcp: Buffer };

/** Nonsense by name, or of a given size, or as given. */
export type Garbage =
  | 'not-json'
  | 'cut-json'
  | 'not-an-array'
  | 'empty-array'
  | 'unknown-verb'
  | 'wrong-types'
  | 'event-null'
  | 'event-without-fields'
  | 'proto'
  | 'deep-json'
  | 'binary'
  | 'invalid-utf8'
  | 'compressed-unasked'
  | 'reserved-opcode'
  | { readonly hugeBytes: number }
  | { readonly text: string };

const DEPTH = 100_000;
const json = (value: unknown): Frame => ({ text: JSON.stringify(value) });

const NAMED: Record<Extract<Garbage, string>, (subscription: string) => Frame> = {
  'not-json': () => ({ text: 'pardon?' }),
  'cut-json': (subscription) => ({ text: `["EVENT","${subscription}",{"id":"00` }),
  'not-an-array': (subscription) => json({ type: 'EVENT', subscription }),
  'empty-array': () => json([]),
  'unknown-verb': (subscription) => json(['GREETINGS', subscription, 1]),
  'wrong-types': () => json(['EOSE', 17, { finish: true }]),
  'event-null': (subscription) => json(['EVENT', subscription, null]),
  'event-without-fields': (subscription) =>
    json(['EVENT', subscription, { kind: 'one', tags: {} }]),
  proto: (subscription) => ({
    text: `["EVENT","${subscription}",{"__proto__":{"id":"x"},"constructor":1}]`,
  }),
  'deep-json': (subscription) => ({
    text: `["EVENT","${subscription}",${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}]`,
  }),
  binary: () => ({ binary: Buffer.from([0, 1, 2, 255, 254]) }),
  'invalid-utf8': () => ({ text: Buffer.from([0x5b, 0x22, 0xc3, 0x28, 0xff, 0x22, 0x5d]) }),
  // RFC 6455, 5.2: the first byte is FIN, three reserved bits, the opcode; the second the length of the payload.
  'compressed-unasked': () => ({ tcp: Buffer.from([0b1100_0001, 2, 0x4b, 0x00]) }),
  'reserved-opcode': () => ({ tcp: Buffer.from([0b1000_0011, 2, 0x68, 0x69]) }),
};

export const GARBAGE_NAMES = Object.keys(NAMED) as Extract<Garbage, string>[];

/** The frame for a piece of nonsense, in the name of the subscription where it has a place for one. */
export function garbageFrame(garbage: Garbage, subscription: string): Frame {
  if (typeof garbage === 'string') return NAMED[garbage](subscription);
  if ('text' in garbage) return garbage;
  // Spaces after a comma: valid JSON, and with deflate a bomb.
  return { text: `["NOTICE",${' '.repeat(garbage.hugeBytes)}"huge"]` };
}

/** The head of an unmasked text frame of 64-bit length (RFC 6455, 5.2); its payload is then dripped. */
export function frameHead(payloadBytes: number): Buffer {
  const head = Buffer.alloc(10);
  head.writeUInt8(0b1000_0001, 0);
  head.writeUInt8(127, 1);
  head.writeBigUInt64BE(BigInt(payloadBytes), 2);
  return head;
}
