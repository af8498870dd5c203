import type { Query } from '../connection.ts';
import { lockFigures } from './apply-day.ts';
import {
  addCurrentAuthors,
  forgetDeleted,
  readTakenUp,
  replaceDeleted,
  setCurrent,
} from './current-events.ts';
import { followLists } from './edges.ts';
import { addZaps, readZaps, removeDeletedZaps } from './zaps.ts';

/**
 * Brings current events, edges and zaps up to date with events that were stored, and events of some days that were
 * deleted. Keys of authors are added before the lock is taken: a recount that adds the same ones may wait for it.
 *
 * @param query of a transaction
 * @param keys events that were stored
 */
export async function takeUp(
  query: Query,
  keys: readonly string[],
  deletedOn: readonly number[],
): Promise<void> {
  const taken = await readTakenUp(query, keys);
  if (taken === 0 && deletedOn.length === 0) return;
  await addCurrentAuthors(query);
  const zaps = await readZaps(query);
  await lockFigures(query);
  await forgetDeleted(query);
  const deleted = await replaceDeleted(query, deletedOn);
  const replaced = await setCurrent(query);
  await followLists(query, [...deleted, ...replaced]);
  await removeDeletedZaps(query, deletedOn);
  await addZaps(query, zaps);
}
