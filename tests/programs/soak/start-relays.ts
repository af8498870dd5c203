/** Which relays a soak has: one of each kind, some hostile ones, and some that only events or a list name. */

import { type Random, seededRandom } from '../../fixtures/random.ts';
import { HOSTILE } from '../../relay/hostile-relays.ts';
import type { NamesModel } from './judge-names.ts';
import { Names, type Place } from './names.ts';
import { startPlaces } from './places.ts';
import { lastingPort } from './ports.ts';
import { Draw, KINDS, type Kind } from './relay-kinds.ts';
import { HostileRelay, type ModelledRelay, SoakRelay } from './relays.ts';

export interface SoakRelays {
  readonly honest: readonly SoakRelay[];
  /** Those of them that no seed list names: they have to be found. */
  readonly hidden: readonly SoakRelay[];
  readonly all: readonly ModelledRelay[];
  readonly model: NamesModel;
}

export interface RelaysOptions {
  readonly seed: number;
  /** Unix seconds. */
  readonly now: number;
  readonly quick: boolean;
}

const QUICK = { honest: 8, hostile: 2, scale: 0.3, hidden: ['behaves', 'caps its pages at 100'] };
const HOSTILE_COUNT = 10;
/** Kinds of relays that are to be found: the first stands in a list, the last is named by events of the second alone. */
const HIDDEN = [
  'behaves',
  'caps its pages at 100',
  'wants to know who is there',
  'holds large events',
  'says what is all (NIP-67)',
];
const NAMED_IN_A_CHAIN = 4;
/** Relays of the seed list that events name too. */
const KNOWN_NAMED = 8;
/** Events that name something: on each relay that holds enough to hide them among. */
const NAMING_EVENTS = 12;
const ENOUGH = 100;
const DAY = 86_400;

/** Starts one relay of each kind and some hostile ones, drawn by the seed, and some that only events name. */
export async function startRelays({ seed, now, quick }: RelaysOptions): Promise<SoakRelays> {
  const random = seededRandom(seed);
  const kinds = quick ? random.shuffle(KINDS).slice(0, QUICK.honest) : KINDS;
  const shared = Draw.sharedEvents(now, seed);
  const scale = quick ? QUICK.scale : 1;
  let drawn = 0;
  const make = async (kind: Kind) => {
    const draw = new Draw({ random, now, seed: seed * 1000 + drawn * 10, scale }, shared);
    drawn += 1;
    return new SoakRelay(kind, kind.make(draw), await lastingPort());
  };
  const seeded: SoakRelay[] = [];
  for (const kind of kinds) seeded.push(await make(kind));
  const hidden: SoakRelay[] = [];
  for (const name of quick ? QUICK.hidden : HIDDEN) hidden.push(await make(hiddenKind(name)));
  const hostile = await startHostile(random, quick);
  const seeds = [...seeded, ...hostile].map(({ url }) => url);
  const model = await modelNames(seeds, hidden, seededRandom(seed + 3), seed);
  for (const relay of [...seeded, ...hidden]) {
    if (relay.held.size < ENOUGH) continue;
    const events = Array.from({ length: NAMING_EVENTS }, () =>
      model.names.event(now - random.integer(60, 29 * DAY)),
    );
    relay.bestow(events);
  }
  nameInChain(hidden, model, now);
  const honest = [...seeded, ...hidden];
  await Promise.all(honest.map((relay) => relay.start()));
  return { honest, hidden, all: [...honest, ...hostile], model };
}

function hiddenKind(name: string): Kind {
  const kind = KINDS.find((one) => one.name === name);
  if (!kind) throw new Error(`there is no kind of relays that ${name}`);
  return { ...kind, name: `${name}, and is to be found` };
}

async function startHostile(random: Random, quick: boolean): Promise<HostileRelay[]> {
  const drawn = random
    .shuffle(HOSTILE.filter(({ filter = {} }) => Object.keys(filter).length === 0))
    .slice(0, quick ? QUICK.hostile : HOSTILE_COUNT);
  return Promise.all(drawn.map(async (one) => new HostileRelay(one, await one.start())));
}

async function modelNames(
  seeds: readonly string[],
  hidden: readonly SoakRelay[],
  random: Random,
  seed: number,
): Promise<NamesModel> {
  const isChained = (_: unknown, index: number) => index === NAMED_IN_A_CHAIN;
  const urls = hidden.map(({ url }) => url);
  const places = await startPlaces(urls.slice(0, 1));
  const target = (place: Place) => (url: string) => ({ place, url });
  const open = [
    ...random.shuffle(seeds).slice(0, KNOWN_NAMED).map(target('known')),
    ...urls.filter((url, index) => !isChained(url, index)).map(target('hidden')),
    ...places.targets,
  ];
  const chained = urls.filter(isChained).map(target('hidden'));
  const names = new Names(random, open, seed);
  return { names, targets: [...open, ...chained], places, seeds };
}

/** The last of the hidden relays is named by events of another one alone, which has to be found first. */
function nameInChain(hidden: readonly SoakRelay[], { names }: NamesModel, now: number): void {
  const [, first] = hidden;
  const last = hidden[NAMED_IN_A_CHAIN];
  if (!first || !last) return;
  const target = { place: 'hidden', url: last.url } as const;
  first.bestow([1, 2, 3].map((day) => names.event(now - day * DAY, [target])));
}
