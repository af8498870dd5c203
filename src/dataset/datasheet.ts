import type { Manifest } from './manifest.ts';
import { utcTime } from './months.ts';
import { number } from './progress.ts';

export const DATASHEET_NAME = 'DATASHEET.md';
/** Kinds and relays that are listed one by one. */
const LISTED = 15;

/** What a reader of the dataset has to know, filled from its manifest. */
export function datasheetText(manifest: Manifest): string {
  return `${[
    `# Nostr events, ${spanOf(manifest)}`,
    whatItIs(manifest),
    howCollected(),
    whatIsMissing(manifest),
    deletions(manifest),
    howToRead(manifest),
    howToCite(manifest),
  ].join('\n\n')}\n`;
}

function spanOf({ window, events }: Manifest): string {
  const [first, last] = [
    window.since ?? events.first_created_at,
    window.until ?? (events.last_created_at === null ? null : events.last_created_at + 1),
  ];
  return first === null || last === null ? 'none' : `${utcTime(first)} to ${utcTime(last)}`;
}

function whatItIs({ events, files, filter }: Manifest): string {
  const kinds = Object.entries(events.kinds)
    .sort(([, a], [, b]) => b - a)
    .slice(0, LISTED)
    .map(([kind, count]) => `| ${kind} | ${number(count)} |`);
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const wanted = Object.keys(filter).length > 0 ? ` that match \`${JSON.stringify(filter)}\`` : '';
  return `## What it is

${number(events.rows)} events of the Nostr network${wanted}, ${number(bytes)} bytes in ${number(files.length)} files. Every event was verified (id and signature, NIP-01) before it was archived. \`created_at\` is what its author says: authors may lie.

| kind | events |
|---|---|
${kinds.join('\n')}`;
}

function howCollected(): string {
  return `## How it was collected

By Bigbrotr, which reads relays from their newest event to their oldest and records for each relay which stretches of \`created_at\` are proven complete, and by what evidence. Each event is stored once, whichever relay sent it.`;
}

function whatIsMissing({ relays, events }: Manifest): string {
  const complete = relays.filter((relay) => relay.proven_seconds === relay.wanted_seconds).length;
  const rows = [...relays]
    .filter((relay) => relay.proven_seconds < relay.wanted_seconds)
    .sort((a, b) => b.wanted_seconds - b.proven_seconds - (a.wanted_seconds - a.proven_seconds))
    .slice(0, LISTED)
    .map(
      (relay) =>
        `| ${relay.url} | ${(relay.wanted_seconds > 0 ? (100 * relay.proven_seconds) / relay.wanted_seconds : 0).toFixed(1)} % | ${number(relay.gaps)} |`,
    );
  const table =
    rows.length > 0
      ? `\n\nThe relays of which most is missing:\n\n| relay | proven | gaps |\n|---|---|---|\n${rows.join('\n')}`
      : '';
  const aside =
    events.quarantined > 0
      ? `\n\n${number(events.quarantined)} events have characters that PostgreSQL's text cannot hold; they are here as they were signed.`
      : '';
  return `## What is missing

${number(relays.length)} relays were read; of ${number(complete)} all that was wanted is proven complete. \`manifest.json\` names each with its largest gaps. Events that no relay served any more when it was read are not here.${table}${aside}`;
}

function deletions({ left_out }: Manifest): string {
  const { deleted, vanished, excluded_authors, respects_deletions } = left_out;
  const requests = respects_deletions
    ? `Requests of authors are respected: ${number(deleted)} events were left out after a request to delete (NIP-09), ${number(vanished)} after a request to vanish (NIP-62).`
    : 'Nothing was left out by request: requests to delete (NIP-09, kind 5) and to vanish (NIP-62, kind 62) are among the events, and whoever publishes figures or texts should respect them.';
  const list =
    excluded_authors > 0
      ? ` ${number(excluded_authors)} events of authors on a list were left out.`
      : '';
  return `## Deletion requests

${requests}${list}`;
}

function howToRead({ event_format }: Manifest): string {
  const ending = event_format === 'parquet' ? 'parquet' : event_format;
  const reader = event_format === 'parquet' ? 'read_parquet' : 'read_json';
  return `## How to read it

\`sha256sum -c SHA256SUMS\` checks the files, \`npm run inspect -- FOLDER\` their events too. In DuckDB:

\`\`\`sql
select kind, count(*) from ${reader}('events/*.${ending}') group by kind order by 2 desc;
\`\`\``;
}

function howToCite({ tool, archive, events }: Manifest): string {
  const asOf = archive.journal ? `, state of ${utcTime(archive.journal.written_at)}` : '';
  return `## How to cite it

Name the publisher, the date, and the SHA-256 of \`manifest.json\` (the line of \`SHA256SUMS\`), which stands for every byte: "Nostr events, ${number(events.rows)} events${asOf}, written by ${tool}, manifest SHA-256 …".`;
}
