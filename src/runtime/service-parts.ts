/** What several services set up in the same way: their worker threads, and the loop that visits relays. */
import type { DatabaseConfig } from '../config/load.ts';
import type { ClaimedWork, Relay } from '../database/bigbrotr.ts';
import { startWaitOf } from '../database/connection.ts';
import { BlockedRelays } from '../network/blocked-relays.ts';
import type { ClaimKeeper } from './claim-keeper.ts';
import type { DueLoopOptions, Ending } from './due-loop.ts';
import type { HeldBack } from './held-back.ts';
import type { Scheduler, SchedulerOptions } from './scheduler.ts';
import type { Service, ServiceNetwork } from './service.ts';

interface WorkersConfig {
  readonly numCores: number;
  readonly requestsPerCore: number;
}

/** The worker threads of a service: `numCores` of them; the service fails when none of them can work any more. */
export function workersOf(config: WorkersConfig, { log, fail, network }: Service, workerUrl: URL) {
  return {
    workerUrl,
    workerData: config,
    workers: config.numCores,
    jobsPerWorker: config.requestsPerCore,
    log,
    onDead: fail,
    onNetwork: (news) => network.note(news),
  } satisfies Partial<SchedulerOptions<never, never>>;
}

/** Starts the workers, within the time that a start may wait for the database. @throws what `Scheduler.start` throws */
export function startWorkers<Job, Result, Progress>(
  scheduler: Scheduler<Job, Result, Progress>,
  { database }: { readonly database: DatabaseConfig },
  { signal }: Service,
): Promise<void> {
  return scheduler.start({ signal, waitMs: startWaitOf(database) });
}

/** How a loop of a service reports. @param items what it looks up, for the log */
export function loopReports(service: Service, items: 'relays' | 'candidates') {
  const { logRepeated, signal, roundFinished, setBusy } = service;
  return {
    onRound: roundFinished,
    onBusy: setBusy,
    onUnavailable: ({ message }) =>
      logRepeated({ reason: message }, `${items} cannot be looked up`),
    signal,
  } satisfies Partial<DueLoopOptions<never>>;
}

/** A relay as a look-up returned it: when it was last visited or checked, Unix seconds; null: never. */
interface LookedUp extends Relay {
  readonly seenAt: number | null;
}

/**
 * Claims relays that are about to be visited or checked, and gives each the fencing token of its claim.
 *
 * @param filterId the filter of the visits; null for checks
 */
export function claimWith<Item extends LookedUp>(
  { claims }: Service,
  work: 'visit' | 'check',
  filterId: number | null,
): NonNullable<DueLoopOptions<Item>['claim']> {
  return async (items) => {
    const wanted = items.map(({ relayId, seenAt }) => ({ key: relayId, seenAt }));
    const tokens = await claims.claim(work, filterId, wanted);
    return items.flatMap((item) => {
      const token = tokens.get(item.relayId);
      return token === undefined ? [] : [{ ...item, token }];
    });
  };
}

/** What the loops over relays have in common: reports, and an end with `--once`. */
export function relayLoop(service: Service, intervalSeconds: number) {
  return {
    reportMs: intervalSeconds * 1000,
    ends: service.once ? 'when each has run' : 'never',
    ...loopReports(service, 'relays'),
  } as const;
}

/** Makes relays that were held back due at once when our own network works again. */
export function lookWhenBack(
  { network }: Service,
  heldBack: HeldBack,
  loop: { lookSoon(): void },
): void {
  network.onReturned(() => {
    heldBack.clear();
    loop.lookSoon();
  });
}

/** Gives up the claim of an item whose job has ended. A job that the stop of the service ended is for another process. */
export function endClaim(
  {
    claims,
    signal,
  }: { readonly claims: Pick<ClaimKeeper, 'lose' | 'release'>; readonly signal: AbortSignal },
  work: ClaimedWork,
  key: number,
  ending: Ending,
): void {
  if (ending === 'claim_lost') claims.lose(work, key);
  else if (ending === 'not_stored' || (ending === 'lost' && signal.aborted))
    claims.release(work, key, 'interrupted');
  else claims.release(work, key, ending === 'lost' ? 'left' : 'done');
}

/** Finds due items except those with some keys: about `limit`, null for all. @throws DatabaseError */
type Query<Item> = (limit: number | null, except: readonly number[]) => Promise<Item[]>;

/** What decides which due relays are left out. */
export interface LeftOut {
  /** Null when there is no list. */
  readonly blocklistPath: string | null;
  /** Whose latest visit failed because our own network did. */
  readonly heldBack: HeldBack;
  /** Null: relays are visited even when our network cannot reach them (`--once`). */
  readonly network: ServiceNetwork | null;
}

/**
 * A look-up that leaves out blocked relays, and those that our own network cannot reach now: as far as they are known in
 * the query, the others from its result. What is left out stays due.
 *
 * @returns a look-up, which throws BlocklistError too
 */
export function lookUpReachable<Item extends Relay>(
  { blocklistPath, heldBack, network }: LeftOut,
  { log }: Pick<Service, 'log'>,
  query: Query<Item>,
): DueLoopOptions<Item>['lookUp'] {
  const blocked = new BlockedRelays(blocklistPath, log);
  const canReach = (item: Item) => network?.canReach(item) ?? true;
  return async (limit, except) => {
    const waiting = heldBack.keys();
    const left = [...except, ...(await blocked.read()), ...waiting];
    // Without DNS the few relays that can be reached may be behind any number of others.
    const most = network?.isDown ? null : limit;
    const due = await query(most, left);
    const unblocked = blocked.without(due);
    const reachable = unblocked.filter(canReach);
    network?.noteWaiting(waiting.length + unblocked.length - reachable.length);
    return { due: reachable, more: most !== null && due.length >= most };
  };
}
