import type { Query } from '../connection.ts';
import { lockFigures } from './apply-day.ts';
import {
  addCurrentAuthors,
  replaceDeleted,
  type SomeEvents,
  setCurrent,
} from './current-events.ts';
import { followLists } from './edges.ts';
import { addZaps, readZaps, removeDeletedZaps } from './zaps.ts';

/**
 * Brings current events, edges and zaps up to date with events that were stored, and events of some days that were
 * deleted. Keys of authors are added before the lock is taken: a recount that adds the same ones may wait for it.
 *
 * @param query of a transaction
 */
export async function takeUp(
  query: Query,
  added: SomeEvents,
  deletedOn: readonly number[],
): Promise<void> {
  await addCurrentAuthors(query, added);
  const zaps = await readZaps(query, added);
  await lockFigures(query);
  const deleted = await replaceDeleted(query, deletedOn);
  const replaced = await setCurrent(query, added);
  await followLists(query, [...deleted, ...replaced]);
  await removeDeletedZaps(query, deletedOn);
  await addZaps(query, zaps);
}
