import { nip19 } from 'nostr-tools';
import { z } from 'zod';

/** Ids and keys as clients write them: hex, or Bech32 (NIP-19). */

const HEX = /^[0-9a-f]{64}$/;

/** An event: 64 hex digits, `note1…` or `nevent1…`. */
export const eventId = z
  .string()
  .max(800)
  .transform((text, ctx) => decoded(text, ['note', 'nevent'], ctx))
  .describe('64 hex digits, note1… or nevent1… (NIP-19).');

/** An author: 64 hex digits, `npub1…` or `nprofile1…`. */
export const authorKey = z
  .string()
  .max(800)
  .transform((text, ctx) => decoded(text, ['npub', 'nprofile'], ctx))
  .describe('64 hex digits, npub1… or nprofile1… (NIP-19).');

function decoded(
  text: string,
  [plain, withRelays]: readonly ['note', 'nevent'] | readonly ['npub', 'nprofile'],
  ctx: z.RefinementCtx<string>,
): string {
  const hex = HEX.test(text.toLowerCase()) ? text.toLowerCase() : hexOf(text);
  const isWanted = text.length === 64 || text.startsWith(plain) || text.startsWith(withRelays);
  if (hex !== null && isWanted) return hex;
  ctx.addIssue({
    code: 'custom',
    message: `must be 64 hex digits, ${plain}1… or ${withRelays}1…`,
  });
  return z.NEVER;
}

/** The id or key in Bech32; null for anything else. */
function hexOf(text: string): string | null {
  try {
    const { type, data } = nip19.decode(text);
    if (type === 'note' || type === 'npub') return data;
    if (type === 'nevent') return data.id;
    return type === 'nprofile' ? data.pubkey : null;
  } catch {
    return null;
  }
}
