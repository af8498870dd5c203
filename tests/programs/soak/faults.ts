/** Everything that goes wrong in a soak, at random. Each fault ends by itself and says whether it has really happened. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CRASH_POINTS, type CrashPoint } from '../../../src/telemetry/crash-point.ts';
import { DATABASE_FAULTS } from './database-faults.ts';
import { aWhile, type Fault, type Scene } from './fault.ts';
import { FINDER_FAULTS } from './finder-faults.ts';
import { MINDS } from './relay-kinds.ts';
import type { SoakRelay } from './relays.ts';
import type { CrashPlan, KeptService } from './services.ts';
import { LEASE_SECONDS } from './setup.ts';
import { letMinutesPass } from './time.ts';

/** Up to which visit of a point a process or worker lives: points that are met for each event, and for each batch or page. */
const NTH: Partial<Record<CrashPoint, number>> = {
  ...{ 'after-receive': 60, 'during-reconcile': 1, 'live-batch': 2 },
};
const USUAL_NTH = 5;
const CRASH_TRIES = 14;
const CRASH_TRY_MS = 1500;
const COME_BACK_TRIES = 20;

/** Relays that no other fault has to do with, those first that somebody is connected to. */
function idle({ relays, random }: Scene, count: number): SoakRelay[] {
  const free = random.shuffle(relays.filter(({ busy, isUp }) => !busy && isUp));
  const isAlone = ({ connections }: SoakRelay) => (connections === 0 ? 1 : 0);
  return free.sort((a, b) => isAlone(a) - isAlone(b)).slice(0, count);
}

async function withRelays(
  relays: readonly SoakRelay[],
  work: (relay: SoakRelay) => Promise<boolean>,
): Promise<boolean> {
  const happened = await Promise.all(
    relays.map(async (relay) => {
      relay.busy = true;
      try {
        return await work(relay);
      } finally {
        relay.busy = false;
      }
    }),
  );
  return happened.some(Boolean);
}

/** Whether a service comes to a point at all: what arrives by subscription comes to the one that follows relays. */
function isMet(point: CrashPoint, { name }: KeptService, relays: readonly SoakRelay[]): boolean {
  if (point === 'live-batch') return name === 'priority-synchronizer';
  return point !== 'during-reconcile' || relays.some(({ hasNip77 }) => hasNip77);
}

/** Starts a service that is to die at a point, and gives it time to get there. What it has died of is told by its end. */
async function planCrash(scene: Scene, scope: CrashPlan['scope']): Promise<boolean> {
  const { random, mortal, relays, servers, tally } = scene;
  const services = mortal.filter(
    ({ name, plan, busy }) => name.endsWith('synchronizer') && plan === null && !busy,
  );
  if (services.length === 0) return false;
  const service = random.pick(services);
  const point = random.pick(CRASH_POINTS.filter((one) => isMet(one, service, relays)));
  const name = `crash point ${point} of a ${scope}`;
  const before = tally.counted(name);
  service.busy = true;
  await service.restart({ point, nth: random.integer(1, NTH[point] ?? USUAL_NTH), scope });
  const urls = relays.map(({ url }) => url);
  for (let tries = 0; tries < CRASH_TRIES && service.plan !== null; tries += 1) {
    await letMinutesPass(servers, urls);
    await sleep(CRASH_TRY_MS);
  }
  service.busy = false;
  return tally.counted(name) > before;
}

const FAULTS: readonly Fault[] = [
  {
    name: 'kill -9 of a service',
    strike: ({ random, mortal }) => random.pick(mortal).kill(),
  },
  {
    name: 'a service is stopped for longer than its lease',
    isPossible: ({ mortal }) => mortal.length > 3, // several hosts
    strike: async ({ random, mortal }) => {
      const service = random.pick(mortal);
      if (service.busy) return false;
      service.busy = true;
      const happened = await service.suspend(random.integer(1, 2) * LEASE_SECONDS * 1000 + 1500);
      service.busy = false;
      return happened;
    },
  },
  {
    name: 'a service is cut off from the database for longer than its lease',
    isPossible: ({ mortal }) => mortal.some(({ canBeCutOff }) => canBeCutOff),
    strike: async ({ random, mortal }) => {
      const service = random.pick(mortal);
      if (service.busy) return false;
      service.busy = true;
      const ms = random.integer(1, 3) * LEASE_SECONDS * 1000 + 1500;
      const happened = await service.cutOff(ms, random.pick(['refused', 'silent']));
      service.busy = false;
      return happened;
    },
  },
  { name: 'death of a service at a crash point', strike: (scene) => planCrash(scene, 'service') },
  { name: 'death of a worker at a crash point', strike: (scene) => planCrash(scene, 'worker') },
  ...FINDER_FAULTS,
  ...DATABASE_FAULTS,
  {
    name: 'relays vanish and come back',
    strike: (scene) =>
      withRelays(idle(scene, scene.random.integer(1, 5)), async (relay) => {
        for (let tries = 0; tries < COME_BACK_TRIES && relay.connections === 0; tries += 1)
          await sleep(500);
        const open = relay.connections;
        await relay.stop();
        await aWhile(scene.random, 1000, 15_000);
        await relay.start();
        for (let tries = 0; tries < COME_BACK_TRIES && relay.connections === 0; tries += 1)
          await sleep(1000);
        return open > 0 && relay.connections > 0;
      }),
  },
  {
    name: 'relays cut their connections',
    strike: (scene) =>
      withRelays(idle(scene, scene.random.integer(2, 12)), async (relay) => relay.dropAll() > 0),
  },
  {
    name: 'relays hang',
    strike: (scene) =>
      withRelays(idle(scene, scene.random.integer(1, 3)), async (relay) => {
        const before = relay.connections;
        relay.hang();
        await aWhile(scene.random, 2000, 8000);
        const after = relay.connections;
        relay.wake();
        return before + after > 0;
      }),
  },
  {
    name: 'relays change their mind',
    isPossible: ({ relays }) => relays.some(({ mayChange }) => mayChange),
    strike: (scene) =>
      withRelays(
        idle(scene, 100).filter(({ mayChange }) => mayChange),
        async (relay) => {
          relay.reconfigure(scene.random.pick(MINDS));
          return true;
        },
      ),
  },
  {
    name: 'relays delete events',
    strike: (scene) =>
      withRelays(idle(scene, 4), async (relay) => {
        const { random } = scene;
        return relay.delete(random, random.integer(1, 20)) > 0;
      }),
  },
];

/** The faults that are possible here, and strike at random until they are told to stop. */
export class Faults {
  readonly planned: readonly string[];
  readonly #scene: Scene;
  readonly #faults: readonly Fault[];
  /** Faults that go on now, by name: none twice at a time. */
  readonly #running = new Map<string, Promise<void>>();
  #bag: Fault[] = [];

  constructor(scene: Scene) {
    this.#scene = scene;
    this.#faults = FAULTS.filter(({ isPossible }) => isPossible?.(scene) ?? true);
    this.planned = this.#faults.map(({ name }) => name);
  }

  /** Those that are planned and have not happened yet. */
  get missing(): readonly string[] {
    return this.planned.filter((name) => this.#scene.tally.counted(`fault: ${name}`) === 0);
  }

  /** Lets one fault begin, each kind as often as any other. */
  strikeOne(): void {
    if (this.#bag.length === 0) this.#bag = this.#scene.random.shuffle(this.#faults);
    const fault = this.#bag.pop();
    if (fault) this.#strike(fault);
  }

  /** Lets those begin that have not happened yet. */
  strikeMissing(): void {
    for (const fault of this.#faults) if (this.missing.includes(fault.name)) this.#strike(fault);
  }

  #strike(fault: Fault): void {
    if (this.#running.has(fault.name)) return;
    const { tally } = this.#scene;
    const running = fault
      .strike(this.#scene)
      .then((happened) => {
        if (happened) tally.count(`fault: ${fault.name}`);
      })
      .catch((error) => tally.fail(`the fault "${fault.name}" could not be made: ${error.stack}`))
      .finally(() => this.#running.delete(fault.name));
    this.#running.set(fault.name, running);
  }

  /** Resolves when no fault goes on any more. */
  async end(): Promise<void> {
    await Promise.all(this.#running.values());
  }
}
