import { z } from 'zod';
import type { RelayFacts } from '../../database/relay-table.ts';
import { snakeCased } from './rows.ts';

const seconds = z.int().nullable();
const milliseconds = z.int().nullable();

/** A relay as the API shows it. Times are Unix seconds. */
export const relayRow = z.object({
  url: z.string(),
  network: z.enum(['clearnet', 'tor', 'i2p', 'loki']),
  priority: z.boolean().describe('Whether it is on the priority list.'),
  added_at: z.int(),
  state: z.enum(['up', 'down', 'unknown']),
  checked_at: seconds.describe('Its latest check; null: never.'),
  openable: z.boolean().nullable(),
  readable: z.boolean().nullable(),
  writable: z.boolean().nullable(),
  rtt_open: milliseconds.describe('Milliseconds to open.'),
  rtt_read: milliseconds.describe('Milliseconds from REQ to the first answer.'),
  rtt_write: milliseconds.describe('Milliseconds from EVENT to OK.'),
  country: z.string().nullable().describe('ISO 3166-1 alpha-2, of its address.'),
  city: z.string().nullable(),
  asn: z.int().nullable(),
  organisation: z.string().nullable(),
  tls_valid: z.boolean().nullable(),
  tls_not_after: seconds.describe('When its certificate expires.'),
  software: z.string().nullable().describe('As the relay claims (NIP-11), like version and NIPs.'),
  version: z.string().nullable(),
  supported_nips: z.array(z.unknown()).nullable(),
  visited_at: seconds.describe('When its latest visit ended; null: never, or it goes on.'),
  outcome: z.string().nullable().describe('complete, partial, unfinished or failed.'),
  stop_reason: z.string().nullable().describe('What stopped its latest visit; null: nothing.'),
  failing_since: seconds.describe('Since when its visits fail; null: they do not.'),
  share: z
    .number()
    .nullable()
    .describe('Share of the wanted time that is proven complete, 0 to 1; null: never visited.'),
  caught_up: z.boolean().describe('Whether it is read to its end, but for holes.'),
});

export function asRelayRow(relay: RelayFacts): z.output<typeof relayRow> {
  return snakeCased(relay) as z.output<typeof relayRow>;
}
