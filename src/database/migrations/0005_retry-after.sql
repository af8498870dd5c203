-- When relays asked to be contacted again (Retry-After, RFC 9110 section 10.2.3), heeded by all services.

alter table relay_manners
    add column retry_at           bigint,
    add column nip11_retry_at     bigint,
    add column nip11_retry_reason text;
comment on column relay_manners.retry_at is 'Not connected to before this, Unix seconds: it refused a connection with Retry-After, of which at most a day is heeded.';
comment on column relay_manners.nip11_retry_at is 'Its NIP-11 document is not asked for before this, Unix seconds: that request was refused with Retry-After.';
comment on column relay_manners.nip11_retry_reason is 'What that request was refused with, as relay_checks has it: http_429, http_503 and the like.';
