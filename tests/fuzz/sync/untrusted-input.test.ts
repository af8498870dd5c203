/** What relays and strangers send beside events: NIP-77 answers, names of relays in events, lists of relays. */
import { hash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { listedNames } from '../../../src/finder/relay-list.ts';
import { RelayNames } from '../../../src/finder/relay-names.ts';
import { parseBlocklist } from '../../../src/network/blocklist.ts';
import { parseRelayUrl } from '../../../src/network/url.ts';
import { NegentropyInitiator } from '../../../src/nip77/initiator.ts';
import { LocalSetBuilder } from '../../../src/nip77/local-set.ts';
import { NegentropyError } from '../../../src/nip77/message.ts';
import { fuzz } from '../../fixtures/fuzz.ts';
import { ADVERSARIAL_URLS } from '../../network/adversarial-urls.ts';
import { NegentropyResponder } from '../../relay/negentropy-responder.ts';

const item = (n: number) => ({ createdAt: 1_700_000_000 + n, id: hash('sha256', `id ${n}`) });
const OURS = Array.from({ length: 300 }, (_, n) => item(2 * n));
const THEIRS = Array.from({ length: 300 }, (_, n) => item(3 * n));
const LIMITS = { frameSizeLimit: 4096, maxNeed: 1000 };

const builder = new LocalSetBuilder(1000);
for (const { createdAt, id } of OURS) builder.add(createdAt, id);
const local = builder.build();
const initiator = () => new NegentropyInitiator(local, LIMITS);

/** Whether it is taken for an answer; anything but a NegentropyError fails. */
function accepts(answer: string): boolean {
  const ours = initiator();
  ours.open();
  try {
    const next = ours.accept(answer);
    expect(ours.need.size).toBeLessThanOrEqual(LIMITS.maxNeed);
    if (next !== null) expect(next.length).toBeLessThanOrEqual(2 * LIMITS.frameSizeLimit);
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(NegentropyError);
    return false;
  }
}

test('NIP-77 answers: any text, any bytes, and good ones with mistakes', () => {
  const bytes = fc.uint8Array({ maxLength: 200 }).map((raw) => Buffer.from(raw).toString('hex'));
  fuzz('Negentropy, any text', fc.string({ unit: 'binary' }), 3000, accepts);
  fuzz(
    'Negentropy, any bytes',
    bytes.map((hex) => `61${hex}`),
    10_000,
    accepts,
  );
  const good = new NegentropyResponder(THEIRS).answer(initiator().open());
  expect(accepts(good)).toBe(true);
  const mistakes = fc
    .array(fc.tuple(fc.nat(good.length - 1), fc.constantFrom(...'0123456789abcdefgX')), {
      ...{ minLength: 1, maxLength: 3 },
    })
    .map((list) =>
      list.reduce((text, [at, put]) => text.slice(0, at) + put + text.slice(at + 1), good),
    );
  fuzz('Negentropy, mutated', mistakes, 5000, accepts);
  fuzz('Negentropy, cut', fc.nat(good.length), 1000, (length) => accepts(good.slice(0, length)));
});

const url = fc.oneof(
  fc.constantFrom(
    ...ADVERSARIAL_URLS.map((adversarial) => adversarial.url),
    'wss://a.net',
    'wss://b.net/x',
  ),
  fc.webUrl({ withQueryParameters: true }).map((text) => text.replace(/^http/, 'ws')),
  fc.string({ unit: 'binary' }),
);
const kind = fc.constantFrom(0, 1, 2, 3, 10_002, 10_050, 9734, 9735, 30_002, 30_166);
const content = fc.oneof(
  url,
  fc.dictionary(url, fc.jsonValue()).map((value) => JSON.stringify(value)),
  fc.tuple(url, url).map(([one, two]) => JSON.stringify({ tags: [['relays', one, two, 7, null]] })),
  fc.string({ unit: fc.constantFrom(...'nprofilevent1qz0 :'), maxLength: 2000 }),
);
const tagName = fc.constantFrom(
  'r',
  'd',
  'e',
  'p',
  'a',
  'q',
  'relay',
  'relays',
  'description',
  '__proto__',
  '',
);
const tags = fc.array(
  fc.tuple(tagName, fc.oneof(url, content), fc.oneof(url, content)).map((tag) => [...tag]),
  { maxLength: 8 },
);

test('relays that events name', () => {
  const events = fc.record({ kind, tags, content });
  fuzz('RelayNames, events', events, 5000, (parts) => {
    const names = new RelayNames({ blocklist: parseBlocklist('', ''), allowPrivate: false });
    const rest = { id: 'a'.repeat(64), pubkey: 'b'.repeat(64), created_at: 1, sig: '' };
    names.addEvent({ ...rest, ...parts });
    for (const named of names.named()) {
      const parsed = parseRelayUrl(named.url);
      expect(parsed).toEqual({ ok: true, url: named.url, network: named.network });
      expect(named.host.length).toBeGreaterThan(0);
    }
    return names.size > 0;
  });
});

test('lists of relays', () => {
  const lists = fc.oneof(
    fc.json(),
    fc.array(fc.oneof(url, content), { maxLength: 20 }).map((list) => list.join('\n')),
    fc.array(url, { maxLength: 20 }).map((list) => JSON.stringify(list)),
  );
  fuzz('listedNames', lists, 5000, (body) => listedNames(body).length > 0);
});
