import { once } from 'node:events';
import { constants, createGunzip, createGzip } from 'node:zlib';
import { Zstd } from '@hpcc-js/wasm-zstd';
import { Decompress } from 'fzstd';
import { DatasetError } from './dataset-error.ts';

/** Compression of JSONL: the same bytes go in and come out whatever it is. */
export type Compression = 'none' | 'gz' | 'zst';

/** Bytes of a frame of zstd before compression: frames follow each other, so that each is compressed alone. */
const FRAME_BYTES = 4 * 1024 * 1024;
const ZSTD_LEVEL = 3;
/** Input of zstd given at a time: of each byte of a block that repeats one byte 32 KB may come. */
const ZSTD_INPUT_BYTES = 4096;

/** Compresses what is written to it. The caller passes on what each call returns. */
export interface Compressor {
  /** @returns compressed bytes, as far as there are some */
  write(bytes: Uint8Array): Promise<Uint8Array[]>;
  end(): Promise<Uint8Array[]>;
}

/** @returns a compressor, whose output depends on its input alone, not on how that was divided */
export async function createCompressor(compression: Compression): Promise<Compressor> {
  switch (compression) {
    case 'none':
      return { write: async (bytes) => [bytes], end: async () => [] };
    case 'gz':
      return gzipCompressor();
    case 'zst':
      return zstdCompressor(await Zstd.load());
  }
}

function gzipCompressor(): Compressor {
  const gzip = createGzip({ level: constants.Z_DEFAULT_COMPRESSION, chunkSize: 256 * 1024 });
  let ready: Uint8Array[] = [];
  gzip.on('data', (chunk: Uint8Array) => ready.push(chunk));
  const taken = () => {
    const chunks = ready;
    ready = [];
    return chunks;
  };
  return {
    write: async (bytes) => {
      if (!gzip.write(bytes)) await once(gzip, 'drain');
      return taken();
    },
    end: async () => {
      const ended = once(gzip, 'end');
      gzip.end();
      await ended;
      return taken();
    },
  };
}

function zstdCompressor(zstd: Zstd): Compressor {
  let waiting: Uint8Array[] = [];
  let bytesWaiting = 0;
  const frame = () => {
    const input = Buffer.concat(waiting);
    waiting = [];
    bytesWaiting = 0;
    return zstd.compress(input, ZSTD_LEVEL);
  };
  return {
    write: async (bytes) => {
      const frames: Uint8Array[] = [];
      for (let rest = bytes; rest.length > 0; ) {
        const part = rest.subarray(0, FRAME_BYTES - bytesWaiting);
        waiting.push(part);
        bytesWaiting += part.length;
        rest = rest.subarray(part.length);
        if (bytesWaiting === FRAME_BYTES) frames.push(frame());
      }
      return frames;
    },
    end: async () => (bytesWaiting > 0 ? [frame()] : []),
  };
}

/** Which compression a file has, by its first bytes. */
export function compressionOf(head: Uint8Array): Compression {
  const starts = (...bytes: number[]) => bytes.every((byte, index) => head[index] === byte);
  if (starts(0x1f, 0x8b)) return 'gz';
  return starts(0x28, 0xb5, 0x2f, 0xfd) ? 'zst' : 'none';
}

/** Decompresses chunks, whatever their division. @throws DatasetError where they are damaged or end too early */
export async function* decompressed(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done) return;
  const all = (async function* () {
    yield first.value;
    for (let next = await iterator.next(); !next.done; next = await iterator.next())
      yield next.value;
  })();
  const compression = compressionOf(first.value);
  if (compression === 'none') yield* all;
  else if (compression === 'gz') yield* gunzipped(all);
  else yield* unzstd(all);
}

async function* gunzipped(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: 256 * 1024 });
  const feeding = (async () => {
    for await (const chunk of chunks) {
      if (gunzip.destroyed) return;
      if (!gunzip.write(chunk)) await Promise.race([once(gunzip, 'drain'), once(gunzip, 'close')]);
    }
    gunzip.end();
  })();
  feeding.catch((error: Error) => gunzip.destroy(error));
  try {
    for await (const chunk of gunzip) yield chunk as Uint8Array;
  } catch (error) {
    if (!String((error as { code?: unknown }).code).startsWith('Z_')) throw error;
    throw new DatasetError(
      (error as { code?: unknown }).code === 'Z_BUF_ERROR'
        ? 'its gzip data is cut off'
        : `its gzip data is damaged (${(error as Error).message})`,
    );
  } finally {
    gunzip.destroy();
  }
}

async function* unzstd(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let ready: Uint8Array[] = [];
  let isWhole = false;
  const stream = new Decompress((chunk, isLast) => {
    if (chunk.length > 0) ready.push(chunk.slice());
    isWhole = isLast === true;
  });
  const push = (bytes: Uint8Array, isLast = false) => {
    try {
      stream.push(bytes, isLast);
    } catch (error) {
      const message = (error as Error).message;
      if (/unexpected EOF/i.test(message)) throw new DatasetError('its zstd data is cut off');
      throw new DatasetError(`its zstd data is damaged (${message})`);
    }
  };
  for await (const chunk of chunks)
    for (let at = 0; at < chunk.length; at += ZSTD_INPUT_BYTES) {
      push(chunk.subarray(at, at + ZSTD_INPUT_BYTES));
      const out = ready;
      ready = [];
      yield* out;
    }
  push(new Uint8Array(0), true);
  yield* ready;
  if (!isWhole) throw new DatasetError('its zstd data is cut off');
}
