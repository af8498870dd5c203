import { computeOffset, feedPubkey, hllEncode, newHll } from 'nostr-tools/nip45';
import type { Query } from '../../database/connection.ts';
import { TOOK_TOO_LONG } from '../../database/connection.ts';
import { codeOf } from '../../database/error.ts';
import {
  countByDays,
  countSelected,
  estimateSelected,
  lowestKeys,
} from '../../database/event-counts.ts';
import type { EventSelection } from '../../database/event-keys.ts';
import { MAX_CREATED_AT } from '../../nostr/event.ts';
import type { ReqFilter } from '../../nostr/filter.ts';
import { selectionOf } from '../query/event-query.ts';
import type { Read } from './stored-events.ts';

/** A count that takes longer is an estimate, in milliseconds. */
const EXACT_MS = 3000;

/** The answer to COUNT (NIP-45). */
export interface Counted {
  readonly count: number;
  /** Absent: the count is exact. */
  readonly approximate?: true;
  /** HyperLogLog of the authors, in hex. */
  readonly hll?: string;
}

/**
 * Counts the events that match any of some filters: all that the archive holds, expired ones too. Exact where the figures
 * of days or an index answer in time, else what the planner expects.
 *
 * @throws DatabaseError
 */
export async function countEvents(filters: readonly ReqFilter[], read: Read): Promise<Counted> {
  const selections = filters.flatMap((filter) => selectionOf(withoutLimit(filter)) ?? []);
  if (selections.length === 0) return { count: 0 };
  try {
    return await read(async (query) => {
      await query(`set local statement_timeout = ${EXACT_MS}`);
      return countExactly(query, filters, selections);
    });
  } catch (error) {
    if (codeOf(error) !== TOOK_TOO_LONG) throw error;
    return { count: await read((query) => estimate(query, selections)), approximate: true };
  }
}

async function countExactly(
  query: Query,
  filters: readonly ReqFilter[],
  selections: readonly EventSelection[],
): Promise<Counted> {
  const [filter] = filters;
  const [only] = selections;
  if (filters.length !== 1 || !only || !filter)
    return { count: await countSelected(query, selections) };
  if (isOfDays(only)) {
    const { kinds = null, since = 0, until = MAX_CREATED_AT } = only;
    const count = await countByDays(query, kinds, since, until);
    if (count !== null) return { count };
  }
  const offset = offsetOf(filter);
  if (offset === null) return { count: await countSelected(query, [only]) };
  const { events, keys } = await lowestKeys(query, only, offset);
  const registers = newHll();
  for (const { byte, rest } of keys)
    feedPubkey(
      registers,
      `${'00'.repeat(offset)}${byte.toString(16).padStart(2, '0')}${rest}`,
      offset,
    );
  return { count: events, hll: hllEncode(registers) };
}

async function estimate(query: Query, selections: readonly EventSelection[]): Promise<number> {
  let sum = 0;
  for (const selection of selections) sum += await estimateSelected(query, selection);
  return sum;
}

/** Whether kinds and time are all that a selection names. */
function isOfDays({ ids, authors, tags = {} }: EventSelection): boolean {
  return !ids && !authors && Object.keys(tags).length === 0;
}

/** The byte of public keys that HyperLogLog begins with; null where the NIP defines none for a filter. */
function offsetOf(filter: ReqFilter): number | null {
  const first = Object.entries(filter).find(([name]) => name.startsWith('#'))?.[1] as
    | readonly string[]
    | undefined;
  return first?.[0] === undefined ? null : computeOffset(first[0]);
}

function withoutLimit({ limit: _limit, search: _search, ...filter }: ReqFilter) {
  return filter;
}
