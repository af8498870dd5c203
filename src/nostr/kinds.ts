import { isEphemeralKind } from 'nostr-tools/kinds';
import type { EventFilter } from './filter.ts';

/**
 * The kinds that are requested from a relay that refuses filters without kinds: those of the NIPs and others in use on the
 * network, ephemeral ones excluded. Each line is one filter with coverage of its own: a new kind goes into a new line at
 * the end, otherwise the coverage of a whole line starts again from zero.
 */
export const NETWORK_KINDS: readonly (readonly number[])[] = [
  [0, 1, 3, 5, 6, 7, 9735, 10002, 30023, 1984],
  [2, 4, 8, 16, 20, 21, 22, 1059, 1111, 9734],
  [9, 10, 11, 12, 13, 14, 15, 17, 18, 19],
  [40, 41, 42, 43, 44, 62, 63, 64, 78, 818],
  [443, 444, 445, 1018, 1021, 1022, 1040, 1060, 1063, 1068],
  [1061, 1062, 1064, 1065, 1066, 1067, 1222, 1244, 1311, 1337],
  [1517, 1617, 1618, 1619, 1621, 1622, 1623, 1624, 1625, 1626],
  [1627, 1628, 1629, 1630, 1631, 1632, 1633, 1808, 1971, 1985],
  [1986, 1987, 2003, 2004, 2022, 2473, 3063, 4454, 4455, 4550],
  [5000, 5001, 5002, 5050, 5100, 5200, 5201, 5202, 5250, 5300],
  [5301, 5302, 5303, 5304, 5400, 5500, 5900, 5901, 5905, 5970],
  [6000, 6001, 6002, 6050, 6100, 6200, 6201, 6202, 6250, 6300],
  [6301, 6302, 6303, 6304, 6400, 6500, 6900, 6901, 6905, 6970],
  [7000, 7374, 7375, 7376, 7516, 7517, 8000, 8001, 8333, 9321],
  [9000, 9001, 9002, 9003, 9004, 9005, 9006, 9007, 9008, 9009],
  [9010, 9011, 9012, 9020, 9021, 9022, 9030, 9041, 9467, 9802],
  [10000, 10001, 10003, 10004, 10005, 10006, 10007, 10008, 10009, 10010],
  [10011, 10012, 10013, 10014, 10015, 10017, 10018, 10019, 10020, 10030],
  [10050, 10051, 10063, 10086, 10096, 10100, 10101, 10102, 10166, 10312],
  [10317, 10377, 11111, 13194, 13534, 17375, 30000, 30001, 30002, 30003],
  [30004, 30005, 30006, 30007, 30008, 30009, 30015, 30017, 30018, 30019],
  [30020, 30024, 30030, 30040, 30041, 30063, 30078, 30166, 30267, 30311],
  [30312, 30313, 30315, 30382, 30383, 30384, 30385, 30388, 30402, 30403],
  [30617, 30618, 30818, 30819, 31234, 31337, 31388, 31871, 31890, 31922],
  [31923, 31924, 31925, 31989, 31990, 32123, 32267, 33401, 33402, 34235],
  [34236, 34237, 34388, 34550, 35834, 36787, 37375, 37516, 38172, 38173],
  [38383, 39000, 39001, 39002, 39003, 39089, 39092, 39382, 39394, 39701],
  [24, 54, 1227, 5999, 6999, 10021, 10044, 10054, 10154, 10164],
  [15128, 30031, 30050, 31987, 34128, 35128, 37515, 39004, 39005, 39006],
];

/** Kinds in one filter: many relays accept no more. */
export const KINDS_PER_FILTER = 10;
/** Most additional kinds that are requested from one relay: anybody can publish events of all 65,536. */
export const MAX_OTHER_KINDS = 500;
/** Additional ones among the kinds that the relay itself has sent. */
export const MAX_SHOWN_KINDS = 100;

/** Whether relays are expected to store events of this kind (NIP-01). */
export function isKept(kind: number): boolean {
  return !isEphemeralKind(kind);
}

/**
 * The filters by kinds that replace a filter without kinds. Earlier ones stay unchanged, since coverage is stored per
 * filter; new kinds go into new filters.
 *
 * @param known kinds that the archive holds, and those that the relay itself has sent, for which there is more room
 * @param before filters by kinds of earlier visits
 */
export function filtersByKinds(
  filter: EventFilter,
  {
    archived,
    shown = [],
  }: { readonly archived: readonly number[]; readonly shown?: readonly number[] },
  before: readonly EventFilter[],
): EventFilter[] {
  const asked = new Set(before.flatMap(({ kinds }) => kinds ?? []));
  const known = new Set(NETWORK_KINDS.flat());
  const others = new Set([...asked].filter((kind) => !known.has(kind)));
  const added: number[] = [];
  const add = (kinds: readonly number[], most: number) => {
    for (const kind of kinds) {
      if (others.size >= most) return;
      if (!isKept(kind) || known.has(kind) || others.has(kind)) continue;
      others.add(kind);
      added.push(kind);
    }
  };
  add(shown, MAX_OTHER_KINDS + MAX_SHOWN_KINDS);
  add(archived, MAX_OTHER_KINDS);
  const lines = NETWORK_KINDS.map((line) => line.filter((kind) => !asked.has(kind)));
  for (let from = 0; from < added.length; from += KINDS_PER_FILTER)
    lines.push(added.slice(from, from + KINDS_PER_FILTER));
  const fresh = lines.filter((kinds) => kinds.length > 0).map((kinds) => ({ ...filter, kinds }));
  return [...before, ...fresh];
}
