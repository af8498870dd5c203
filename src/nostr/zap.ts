import { getSatoshisAmountFromBolt11 } from 'nostr-tools/nip57';

/** What a zap receipt says (NIP-57): neither the payment nor the signature of the zap request in it is checked. */
export interface Zap {
  /** Author of the zap request, or the tag `P`; hex, null where neither is there. */
  readonly sender: string | null;
  /** Tag `p`, hex. */
  readonly recipient: string | null;
  /** Id of the event that was zapped, hex; null for zaps of a person. */
  readonly target: string | null;
  /** Amount of the invoice in thousandths of a satoshi; null where it names none. */
  readonly millisats: number | null;
}

const KEY = /^[0-9a-f]{64}$/;
const ZAP_REQUEST = 9734;
/** Reads the tags of a zap receipt (kind 9735). What is missing or malformed is null. */
export function readZap(tags: readonly (readonly string[])[]): Zap {
  const value = (name: string) => tags.find(([tag]) => tag === name)?.[1] ?? '';
  const key = (text: string) => (KEY.test(text) ? text : null);
  return {
    sender: key(requestAuthor(value('description'))) ?? key(value('P')),
    recipient: key(value('p')),
    target: key(value('e')),
    millisats: millisatsOf(value('bolt11')),
  };
}

function requestAuthor(text: string): string {
  try {
    const request: unknown = JSON.parse(text);
    if (typeof request !== 'object' || request === null) return '';
    const { kind, pubkey } = request as { kind?: unknown; pubkey?: unknown };
    return kind === ZAP_REQUEST && typeof pubkey === 'string' ? pubkey : '';
  } catch {
    return '';
  }
}

function millisatsOf(invoice: string): number | null {
  const millisats = Math.round(getSatoshisAmountFromBolt11(invoice.toLowerCase()) * 1000);
  return millisats > 0 && Number.isSafeInteger(millisats) ? millisats : null;
}
