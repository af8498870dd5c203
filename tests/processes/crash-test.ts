import { expect } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { CRASH_POINTS, type CrashPoint } from '../../src/telemetry/crash-point.ts';
import { forgedEvents, signedEvents } from '../fixtures/events.ts';
import { expectWhole, type Held, seenOn } from '../fixtures/pipeline-model.ts';
import type { ScriptedRelay } from '../relay/scripted-relay.ts';
import type { Program } from './programs.ts';
import { stackTest } from './stack-test.ts';

/**
 * Tests in which the priority synchronizer, or one of its worker threads, dies at a crash point while it reads two
 * relays: one page by page, and one by NIP-77.
 */

const NOW = Math.floor(Date.now() / 1000);
const HISTORY = { from: NOW - 500_000, to: NOW - 10_000 };
const BATCH = 200;
const SHARED = signedEvents(400, { ...HISTORY, seed: 1 });
const OF_PAGED = [...SHARED, ...signedEvents(1600, { ...HISTORY, seed: 2 })];
const OF_NIP77 = [...SHARED, ...signedEvents(1100, { ...HISTORY, seed: 3 })];
/** Events of the paged relay that are never stored. */
export const FORGED = forgedEvents(20, { ...HISTORY, seed: 4 });
/** Events that arrive over a live subscription. */
export const LIVE = signedEvents(30, { from: NOW - 60, to: NOW - 10, seed: 5 });
export const DIED_OF_IT = { code: null, signal: 'SIGKILL' };
export const SUCCESS = { code: 0, signal: null };

/** Points of the monitor, the finder and the refresher have files of their own. */
const OF_OTHERS = [
  ...(['checked', 'answered'] as const),
  ...(['days-marked', 'day-counted', 'part-applied', 'day-applied'] as const),
  'month-exported',
] as const satisfies readonly CrashPoint[];
type Archiving = Exclude<CrashPoint, (typeof OF_OTHERS)[number]>;
const POINTS = CRASH_POINTS.filter((point): point is Archiving =>
  OF_OTHERS.every((other) => other !== point),
);
/** In which of its visits to the point a run dies: in the middle of the history. */
const NTH: Readonly<Record<Archiving, number>> = {
  'after-receive': 2000,
  'after-known': 9,
  'after-verify': 9,
  'in-transaction': 4, // batches with a forged event: the others are one statement
  'before-commit': 4,
  'after-commit': 7,
  'after-page': 6,
  'after-coverage': 4,
  'during-reconcile': 5,
  'live-batch': 1,
};
/** Each point that is reached while a relay is behind, with the pass at which it is crashed. */
export const WHILE_CATCHING_UP = POINTS.filter((point) => point !== 'live-batch').map((point) => ({
  point,
  at: `${point}:${NTH[point]}`,
}));

interface Left {
  readonly ofPaged: number;
  readonly ofNip77: number;
}

export const crashTest = stackTest
  .extend('paged', ({ startRelay }) =>
    startRelay({ events: [...OF_PAGED, ...FORGED], quirk: { cap: BATCH } }),
  )
  .extend('reconciled', ({ startRelay }) =>
    startRelay({ events: OF_NIP77, quirk: { cap: BATCH }, nip77: {} }),
  )
  /** What must be archived in the end: of the paged relay, then of the other one. */
  .extend('model', ({ paged, reconciled }): [Held, Held] => [
    { url: paged.url, events: OF_PAGED },
    { url: reconciled.url, events: OF_NIP77 },
  ])
  .extend('start', async ({ stack, database, paged, reconciled }) => {
    stack.env.SYNCHRONIZER_BATCH_SIZE = String(BATCH);
    stack.env.SYNCHRONIZER_REQUEST_TIMEOUT = '20'; // a relay that lets in late is not silent
    await stack.relays([], [paged.url, reconciled.url]);
    await database.query(`select insert_relay_metadata($1, 'clearnet', $2, $3, $4)`, [
      reconciled.url,
      NOW,
      { supported_nips: [1, 11, 77], limitation: { max_limit: BATCH } },
      { openable: true, readable: true, writable: false, rtt_open: 1, rtt_read: 1 },
    ]);
    await database.query('select insert_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)', [
      ...columnsOf(OF_NIP77.at(-1) as NostrEvent),
      ...[reconciled.url, 'clearnet', NOW],
    ]);
    return (env: Record<string, string>, ...args: string[]): Program =>
      stack.start('priority-synchronizer', args, env);
  })
  /** Counts events of the relay that are not stored, those that never will be among them. */
  .extend(
    'unstored',
    ({ database }) =>
      async (relay: ScriptedRelay): Promise<number> =>
        relay.events.length - (await seenOn(database, relay.url)).size,
  )
  /** Counts what a crash has left to do. Some of it was done. */
  .extend('leftInTheMiddle', ({ unstored, paged, reconciled }) => async (): Promise<Left> => {
    const left = { ofPaged: await unstored(paged), ofNip77: await unstored(reconciled) };
    expect(left.ofPaged + left.ofNip77).toBeGreaterThan(BATCH);
    expect(left.ofPaged + left.ofNip77).toBeLessThan(OF_PAGED.length + OF_NIP77.length);
    return left;
  })
  /** Expects that since `forget` the relays have sent what was left, and next to nothing beside it. */
  .extend('expectLittleAgain', ({ paged, reconciled }) => (what: string, left: Left): void => {
    const beyond = paged.eventsSent - left.ofPaged;
    const beyondOfNip77 = reconciled.eventsSent - left.ofNip77;
    console.info(
      `${what}, fetched again beyond what was not stored: ${beyond} of ${paged.requests.length} pages; NIP-77 ${beyondOfNip77}`,
    );
    // At most one batch, and the second in which each page begins.
    expect(beyond).toBeLessThanOrEqual(BATCH + paged.requests.length);
    expect(beyondOfNip77).toBeLessThanOrEqual(1); // it asks whether there is more below what was listed
  })
  /** Waits until both relays were visited and the paged one is followed, this number of times. */
  .extend('untilFollowed', ({ paged }) => async (program: Program, times = 1): Promise<void> => {
    await program.until(
      () => program.log.filter(({ msg }) => msg === 'relay visited').length >= 2 * times,
      `${times} visits to each relay`,
    );
    const live = () => paged.requests.filter(({ filters }) => filters[0]?.limit === 0);
    await paged.until(() => live().length >= times, 'an open subscription', 20_000);
  })
  /** Publishes events over the live subscription. @returns what must be archived now */
  .extend('publish', ({ paged, model }) => (events: readonly NostrEvent[]): readonly Held[] => {
    for (const event of events) paged.publish(event);
    model[0] = { ...model[0], events: [...model[0].events, ...events] };
    return model;
  })
  /** Runs the service once more without a crash, and expects that the archive holds all of the model. */
  .extend('finish', ({ start, database, model }) => async (): Promise<void> => {
    const again = start({}, '--once');
    expect(await again.ended, again.said).toEqual(SUCCESS);
    await expectWhole(database, model);
  });

/** The values of an event for `insert_event`: of a relay that was seen to hold one the rest is read by NIP-77. */
function columnsOf(event: NostrEvent): unknown[] {
  return [
    ...[Buffer.from(event.id, 'hex'), Buffer.from(event.pubkey, 'hex'), event.created_at],
    ...[event.kind, JSON.stringify(event.tags), event.content, Buffer.from(event.sig, 'hex')],
  ];
}

export const workerDeaths = (program: Program) =>
  program.log.filter(({ msg }) => msg === 'a worker died, starting another');
