import { open } from 'node:fs/promises';
import {
  type ColumnMetaData,
  type FileMetaData,
  parquetMetadataAsync,
  type SchemaElement,
} from 'hyparquet';
import { DatasetError } from './dataset-error.ts';
import { PROFILE_KEY, PROFILE_VERSION } from './parquet-file.ts';

/** The Parquet profile in which Nostr archives exchange events, read from the footer of a file. */

const ENCODINGS = new Set(['PLAIN', 'RLE', 'RLE_DICTIONARY']);

const bytes = (name: string, length: number) => `${name} FIXED_LEN_BYTE_ARRAY(${length}) REQUIRED`;
/** The elements of the schema below its root, in their order. */
const SCHEMA: readonly string[] = [
  bytes('id', 32),
  bytes('pubkey', 32),
  'created_at INT64 REQUIRED INTEGER(64,false)',
  'kind INT32 REQUIRED INTEGER(16,false)',
  'tags group REQUIRED LIST',
  'list group REPEATED',
  'element group REQUIRED LIST',
  'list group REPEATED',
  'element BYTE_ARRAY REQUIRED STRING',
  'content BYTE_ARRAY REQUIRED STRING',
  bytes('sig', 64),
];

/** What logical types were called before: files that were written so are in the profile too. */
const EARLIER_NAMES: Readonly<Record<string, string>> = {
  ...{ UTF8: 'STRING', LIST: 'LIST', UINT_64: 'INTEGER(64,false)', UINT_16: 'INTEGER(16,false)' },
};

function described(element: SchemaElement): string {
  const { name, type, type_length, repetition_type, logical_type, converted_type } = element;
  const logical =
    logical_type?.type === 'INTEGER'
      ? `INTEGER(${logical_type.bitWidth},${logical_type.isSigned})`
      : (logical_type?.type ?? EARLIER_NAMES[converted_type ?? '']);
  const physical = type_length ? `${type}(${type_length})` : (type ?? 'group');
  return [name, physical, repetition_type, logical].filter(Boolean).join(' ');
}

/**
 * The footer of a Parquet file.
 * @throws DatasetError where it cannot be read
 */
export async function readFooter(path: string): Promise<FileMetaData> {
  const handle = await open(path);
  try {
    const { size } = await handle.stat();
    const slice = async (start: number, end = size): Promise<ArrayBuffer> => {
      const buffer = new Uint8Array(Math.max(0, end - start));
      await handle.read(buffer, 0, buffer.length, start);
      return buffer.buffer;
    };
    return await parquetMetadataAsync({ byteLength: size, slice });
  } catch (error) {
    throw new DatasetError(`its Parquet footer cannot be read (${(error as Error).message})`);
  } finally {
    await handle.close();
  }
}

/** In what a footer differs from the profile, a sentence each; none where it is as it has to be. */
export function profileFaults({ schema, key_value_metadata, row_groups }: FileMetaData): string[] {
  const faults: string[] = [];
  const elements = schema.slice(1).map(described);
  if (elements.join('\n') !== SCHEMA.join('\n')) {
    const at = SCHEMA.findIndex((element, index) => element !== elements[index]);
    faults.push(
      at < 0
        ? `it has more columns than the profile: ${elements.slice(SCHEMA.length).join(', ')}`
        : `its schema has ${elements[at] ?? 'nothing'} where the profile has ${SCHEMA[at]}`,
    );
  }
  const keys = (key_value_metadata ?? []).filter(({ key }) => key === PROFILE_KEY);
  if (keys.length !== 1 || keys[0]?.value !== PROFILE_VERSION)
    faults.push(
      keys.length > 1
        ? `its footer has ${PROFILE_KEY} ${keys.length} times`
        : `its footer has ${PROFILE_KEY} = ${keys[0]?.value ?? 'nothing'} where the profile has ${PROFILE_VERSION}`,
    );
  for (const [index, { columns }] of row_groups.entries())
    for (const { meta_data } of columns)
      if (meta_data)
        faults.push(...columnFaults(meta_data).map((fault) => `row group ${index + 1}: ${fault}`));
  return faults;
}

function columnFaults(column: ColumnMetaData): string[] {
  const { codec, encodings, statistics, encoding_stats = [] } = column;
  const name = column.path_in_schema.join('.');
  const faults: string[] = [];
  if (codec !== 'ZSTD') faults.push(`${name} is compressed by ${codec}, not by ZSTD`);
  const other = encodings.find((encoding) => !ENCODINGS.has(encoding));
  if (other !== undefined) faults.push(`${name} has encoding ${other}`);
  const page = encoding_stats.find(({ page_type }) => page_type === 'DATA_PAGE_V2');
  if (page) faults.push(`${name} has data pages of version 2`);
  const isWithout = statistics?.min_value === undefined || statistics.max_value === undefined;
  if (name === 'created_at' && isWithout) faults.push('created_at has no statistics');
  return faults;
}
