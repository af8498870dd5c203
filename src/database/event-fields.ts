/** SQL: the fields of an event as NIP-01 has them, ids and keys in hex, from a row of `events`. */
export const eventFields = (alias: string) =>
  `encode(${alias}.id, 'hex') as id, encode(${alias}.pubkey, 'hex') as pubkey, ${alias}.created_at, ${alias}.kind, ${alias}.tags,
     ${alias}.content, encode(${alias}.sig, 'hex') as sig`;

/** SQL: the bytes of an event that differ from event to event, known without reading long ones (TOAST). */
export const EVENT_BYTES = 'octet_length(content)::bigint + octet_length(tags::text)';
