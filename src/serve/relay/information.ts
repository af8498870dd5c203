import type { RelayConfig } from '../../config/load.ts';
import { MAX_SUBSCRIPTION_LENGTH } from '../../nostr/client-message.ts';
import type { RelayLimits } from './context.ts';

/** What is served beside NIP-01, and NIP-42 where it is on. */
const NIPS = [1, 11, 40, 45, 67, 70, 77];

/** The information document of the relay (NIP-11), as JSON. */
export function informationOf(
  config: Pick<RelayConfig, 'information' | 'authUrl'>,
  limits: RelayLimits,
  version: string,
): string {
  const { name, description, contact, pubkey } = config.information;
  return JSON.stringify({
    name,
    description,
    ...(pubkey && { pubkey }),
    ...(contact && { contact }),
    supported_nips: config.authUrl === null ? NIPS : [...NIPS, 42].sort((a, b) => a - b),
    version,
    limitation: {
      max_message_length: limits.maxMessageBytes,
      max_subscriptions: limits.maxSubscriptions,
      max_filters: limits.maxFilters,
      max_limit: limits.maxLimit,
      default_limit: limits.defaultLimit,
      max_subid_length: MAX_SUBSCRIPTION_LENGTH,
      auth_required: false,
      payment_required: false,
      restricted_writes: true,
    },
  });
}
