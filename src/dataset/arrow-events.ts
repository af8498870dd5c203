import {
  type DataType,
  Field,
  FixedSizeBinary,
  List,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Uint16,
  Uint64,
  Utf8,
} from 'apache-arrow';
import type { NostrEvent } from '../nostr/event.ts';

/** Events as Arrow record batches, from which Parquet is written. */

const required = (name: string, type: DataType) => new Field(name, type, false);
const STRINGS = new List(required('element', new Utf8()));
const TAGS = new List(required('element', STRINGS));

/** The seven columns of the Parquet profile of Nostr archives, in its order. */
export const EVENT_SCHEMA = new Schema([
  required('id', new FixedSizeBinary(32)),
  required('pubkey', new FixedSizeBinary(32)),
  required('created_at', new Uint64()),
  required('kind', new Uint16()),
  required('tags', TAGS),
  required('content', new Utf8()),
  required('sig', new FixedSizeBinary(64)),
]);

/** Bytes that grow as texts are appended, with the places where each begins. */
export class TextColumn {
  #bytes = Buffer.allocUnsafe(64 * 1024);
  #used = 0;
  readonly #offsets: number[] = [0];

  add(text: string): void {
    const most = text.length * 3;
    if (this.#used + most > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(2 * this.#bytes.length, this.#used + most));
      this.#bytes.copy(grown, 0, 0, this.#used);
      this.#bytes = grown;
    }
    this.#used += this.#bytes.write(text, this.#used, 'utf8');
    this.#offsets.push(this.#used);
  }

  get length(): number {
    return this.#offsets.length - 1;
  }

  /** Bytes so far. */
  get bytes(): number {
    return this.#used;
  }

  data() {
    return makeData({
      type: new Utf8(),
      length: this.length,
      nullCount: 0,
      valueOffsets: Int32Array.from(this.#offsets),
      data: this.#bytes.subarray(0, this.#used),
    });
  }
}

/** Collects events for one record batch. */
export class EventBatch {
  readonly #events: NostrEvent[] = [];
  readonly #content = new TextColumn();
  readonly #strings = new TextColumn();
  readonly #inner: number[] = [0];
  readonly #outer: number[] = [0];

  add(event: NostrEvent): void {
    this.#events.push(event);
    this.#content.add(event.content);
    for (const tag of event.tags) {
      for (const text of tag) this.#strings.add(text);
      this.#inner.push(this.#strings.length);
    }
    this.#outer.push(this.#inner.length - 1);
  }

  get rows(): number {
    return this.#events.length;
  }

  /** Bytes of the columns, about as PLAIN encoding has them. */
  get bytes(): number {
    return this.rows * 138 + this.#content.bytes + this.#strings.bytes + 4 * this.#strings.length;
  }

  recordBatch(): RecordBatch {
    const events = this.#events;
    const { length } = events;
    const hex = (field: 'id' | 'pubkey' | 'sig', width: number) => {
      const data = Buffer.allocUnsafe(length * width);
      for (const [index, event] of events.entries()) data.write(event[field], index * width, 'hex');
      return makeData({ type: new FixedSizeBinary(width), length, nullCount: 0, data });
    };
    const list = (type: List, offsets: readonly number[], child: ReturnType<typeof makeData>) =>
      makeData({
        ...{ type, length: offsets.length - 1, nullCount: 0, child },
        valueOffsets: Int32Array.from(offsets),
      } as Parameters<typeof makeData>[0]);
    const children = [
      hex('id', 32),
      hex('pubkey', 32),
      makeData({
        type: new Uint64(),
        length,
        nullCount: 0,
        data: BigUint64Array.from(events, ({ created_at }) => BigInt(created_at)),
      }),
      makeData({
        type: new Uint16(),
        length,
        nullCount: 0,
        data: Uint16Array.from(events, ({ kind }) => kind),
      }),
      list(TAGS, this.#outer, list(STRINGS, this.#inner, this.#strings.data())),
      this.#content.data(),
      hex('sig', 64),
    ];
    const type = new Struct(EVENT_SCHEMA.fields);
    return new RecordBatch(EVENT_SCHEMA, makeData({ type, length, nullCount: 0, children }));
  }
}
