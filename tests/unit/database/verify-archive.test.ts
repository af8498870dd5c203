import { expect, test } from 'vitest';
import type { StoredEvent } from '../../../src/database/reading.ts';
import { verifyArchive } from '../../../src/database/verify-archive.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { createVerifier } from '../../../src/nostr/verify.ts';
import { forge, signedEvents } from '../../fixtures/events.ts';

const EVENTS = signedEvents(3, { from: 1, to: 100 });
const verifier = await createVerifier();

function stored(events: readonly NostrEvent[], id?: string): StoredEvent[] {
  return events.map((event) => ({ id: id ?? event.id, place: 'events', event }));
}

async function verify(chunks: readonly StoredEvent[][], sample: number | null = null) {
  async function* read() {
    yield* chunks;
  }
  const lines: string[] = [];
  const different = await verifyArchive({ storedEvents: read, sampledEvents: read }, verifier, {
    sample,
    onResult: (line) => lines.push(line),
    onProgress: () => {},
  });
  return { different, lines };
}

test('a sound archive has no difference, and the last line has the figures', async () => {
  const { different, lines } = await verify([stored(EVENTS)]);
  expect(different).toBe(0);
  expect(lines).toEqual([expect.stringMatching(/^3 events read back, 0 different, [\d.]+ s, /)]);
});

test('names a forged signature, a changed event and one under another id', async () => {
  const [one, two, three] = EVENTS as [NostrEvent, NostrEvent, NostrEvent];
  const changed = { ...two, content: `${two.content} and more` };
  const other = 'f'.repeat(64);
  const chunks = [stored([forge(one, 'signature')]), stored([changed]), stored([three], other)];
  const { different, lines } = await verify(chunks, 3);
  expect(different).toBe(3);
  expect(lines.slice(0, 3)).toEqual([
    `${one.id}  events  bad_signature`,
    expect.stringMatching(`^${two.id}  events  `),
    `${other}  events  stands under another id`,
  ]);
});
