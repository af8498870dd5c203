import type { NostrEvent } from '../../../src/nostr/event.ts';
import { makeKeys, signedEvent } from '../../fixtures/events.ts';
import { type Random, seededRandom } from '../../fixtures/random.ts';

/** Events of one size that are all alike but for their words: the same set for the same description. */
export interface EventSet {
  readonly count: number;
  /** Another seed gives other events. */
  readonly seed: number;
  /** `notes` have about 1,300 bytes of JSON, `likes` about 550. */
  readonly size: 'notes' | 'likes';
  /** Seconds from one event to the next, on average. */
  readonly everySeconds: number;
}

/** `created_at` of the newest event of every set. */
export const NEWEST = 1_750_000_000;
const AUTHORS = 300;
const WORDS =
  'the of and relay note to in is that for it was on with as his event they at be this from have or by one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first been its who now people my made over did down only way find use may water long little very after words called just where most know'.split(
    ' ',
  );

const keys = makeKeys(AUTHORS, 4);

/** Gives the events of a set newest first, as relays send them. */
export function* eventsOf(set: EventSet): Generator<NostrEvent, void> {
  const random = seededRandom(set.seed);
  for (let index = 0; index < set.count; index++) {
    const age = Math.floor((index + random.next()) * set.everySeconds);
    yield set.size === 'notes' ? note(random, NEWEST - age) : like(random, NEWEST - age);
  }
}

function note(random: Random, created_at: number): NostrEvent {
  const tags = [
    ['e', randomId(random), 'wss://relay.example.com', 'root'],
    ['e', randomId(random), 'wss://relay.example.com', 'reply'],
    ['p', random.pick(keys).publicKey],
    ['t', random.pick(WORDS)],
  ];
  const content = sentence(random, 610);
  return signedEvent({ created_at, tags, content, secretKey: random.pick(keys).secretKey });
}

function like(random: Random, created_at: number): NostrEvent {
  const tags = [
    ['e', randomId(random)],
    ['p', random.pick(keys).publicKey],
  ];
  const secretKey = random.pick(keys).secretKey;
  return signedEvent({ created_at, kind: 7, tags, content: '+', secretKey });
}

/** Any id: of an event that need not exist. */
function randomId(random: Random): string {
  let id = '';
  while (id.length < 64)
    id += Math.floor(random.next() * 2 ** 32)
      .toString(16)
      .padStart(8, '0');
  return id;
}

function sentence(random: Random, length: number): string {
  let text = random.pick(WORDS);
  while (text.length < length) text += ` ${random.pick(WORDS)}`;
  return text;
}

/** Average number of events that refer to a referenced event. */
const REFERENCES = 3;

/**
 * As many events as wanted that are as mixed as the given ones: each is one of them with another time, another author
 * and other ids in its tags, each of which is in three events on average. Newest first.
 */
export function* eventsLike(
  models: readonly NostrEvent[],
  count: number,
): Generator<NostrEvent, void> {
  const random = seededRandom(9);
  const referred = Array.from({ length: Math.ceil(count / REFERENCES) }, () => randomId(random));
  for (let index = 0; index < count; index++) {
    const { kind, tags, content } = random.pick(models);
    yield signedEvent({
      created_at: NEWEST - 3 * index - random.integer(0, 2),
      kind,
      tags: tags.map(([name = '', value, ...rest]) => {
        if (value === undefined) return [name];
        return [name, name === 'e' && value.length === 64 ? random.pick(referred) : value, ...rest];
      }),
      content,
      secretKey: random.pick(keys).secretKey,
    });
  }
}
