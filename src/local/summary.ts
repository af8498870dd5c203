import type { Totals } from '../database/bigbrotr.ts';

/** The table that `--once` prints at its end: the archive as it is now, and what this run added or refused. */
export function summaryOf(
  totals: Totals,
  counts: Readonly<Record<string, number>>,
  seconds: number,
): string {
  const invalid = Object.entries(counts)
    .filter(([name, count]) => name.startsWith('invalid_') && count > 0)
    .map(([name, count]) => [`  ${name.slice('invalid_'.length)}`, count] as const);
  const rows: (readonly [string, number | string])[] = [
    ['relays', totals.relays],
    ['  found in this round', counts.relays_found ?? 0],
    ['  openable', totals.openable],
    ['  readable', totals.readable],
    ['  writable', totals.writable],
    ['  not readable', totals.failing],
    ['  not checked', totals.unchecked],
    ['visits', counts.relays_visited ?? 0],
    ['  complete', counts.relays_complete ?? 0],
    ['  partial', counts.relays_partial ?? 0],
    ['  unfinished', counts.relays_unfinished ?? 0],
    ['  failed', counts.relays_failed ?? 0],
    ['events', totals.events],
    ['  new in this round', counts.events ?? 0],
    ['sightings', totals.sightings],
    ['  new in this round', counts.sightings ?? 0],
    ['quarantined', totals.quarantined],
    ['invalid in this round', invalid.reduce((sum, [, count]) => sum + count, 0)],
    ...invalid,
    ['seconds', seconds.toFixed(1)],
  ];
  const figures = rows.map(([name, value]) => [
    name,
    typeof value === 'number' ? value.toLocaleString('en-US') : value,
  ]);
  const nameWidth = Math.max(...figures.map(([name]) => name?.length ?? 0));
  const valueWidth = Math.max(...figures.map(([, value]) => value?.length ?? 0));
  const lines = figures.map(
    ([name = '', value = '']) => `${name.padEnd(nameWidth)}  ${value.padStart(valueWidth)}`,
  );
  return `\n${lines.join('\n')}\n\n`;
}
