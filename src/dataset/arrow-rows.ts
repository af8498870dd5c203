import {
  Bool,
  type Data,
  type DataType,
  Field,
  FixedSizeBinary,
  Int64,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Utf8,
  vectorFromArray,
} from 'apache-arrow';
import type { ColumnType } from '../database/dataset-tables.ts';

/** Rows of tables as Arrow record batches. */

/** The columns of a table. `bytes32` is an id in hex. */
export type ColumnTypes = Readonly<Record<string, ColumnType | 'bytes32'>>;

function arrowType(type: ColumnTypes[string]): DataType {
  switch (type) {
    case 'string':
      return new Utf8();
    case 'int64':
      return new Int64();
    case 'boolean':
      return new Bool();
    case 'bytes32':
      return new FixedSizeBinary(32);
  }
}

export function schemaOf(columns: ColumnTypes, nullable: boolean): Schema {
  const fields = Object.entries(columns).map(
    ([name, type]) => new Field(name, arrowType(type), nullable),
  );
  return new Schema(fields);
}

/** Collects rows for one record batch. */
export class RowBatch<T extends object> {
  readonly #schema: Schema;
  readonly #columns: ColumnTypes;
  readonly #rows: T[] = [];
  #bytes = 0;

  constructor(schema: Schema, columns: ColumnTypes) {
    this.#schema = schema;
    this.#columns = columns;
  }

  add(row: T): void {
    this.#rows.push(row);
    for (const value of Object.values(row)) this.#bytes += String(value).length;
  }

  get rows(): number {
    return this.#rows.length;
  }

  /** About as many as the rows take. */
  get bytes(): number {
    return this.#bytes;
  }

  recordBatch(): RecordBatch {
    const { length } = this.#rows;
    const children = Object.entries(this.#columns).map(([name, type]) => this.#column(name, type));
    const struct = makeData({
      type: new Struct(this.#schema.fields),
      ...{ length, nullCount: 0, children },
    });
    return new RecordBatch(this.#schema, struct);
  }

  #column(name: string, type: ColumnTypes[string]): Data {
    const values = this.#rows.map((row) => (row as Record<string, unknown>)[name] ?? null);
    if (type === 'bytes32') {
      const data = Buffer.from(values.join(''), 'hex');
      const { length } = values;
      return makeData({ type: new FixedSizeBinary(32), length, nullCount: 0, data });
    }
    const typed = values.map((value) =>
      value !== null && type === 'int64' ? BigInt(value as number) : value,
    );
    const [data] = vectorFromArray(typed, arrowType(type)).data;
    if (!data) throw new Error(`column ${name} has no data`);
    return data as Data;
  }
}
