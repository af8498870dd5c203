export default [
  {
    name: 'an event text is believed to hash to its id',
    find: "return hash('sha256', text, 'hex') === id ? (event as HashedEvent) : null;",
    replace: "return hash('sha256', text, 'hex') !== '' ? (event as HashedEvent) : null;",
    tests: ['unit:nostr/event-text'],
  },
  {
    name: 'a quotation mark after two backslashes does not end a string',
    find: 'if ((at - before) % 2 === 1) return at + 1;',
    replace: 'if (at - before === 1) return at + 1;',
    tests: ['unit:nostr/event-text'],
  },
  {
    name: 'signatures are not checked',
    find: 'check($event.id, $event.pubkey, $event.sig) ? ($event as VerifiedEvent) : null',
    replace:
      'check($event.id, $event.pubkey, $event.sig) || true ? ($event as VerifiedEvent) : null',
    tests: ['unit:nostr/verify', 'db:sync/lessons'],
  },
  {
    name: 'a known id is trusted whatever its signature',
    find: '$event.sig === archivedSig ?',
    replace: '$event.sig.length === archivedSig.length ?',
    tests: ['unit:nostr/verify', 'db:sync/batch-writer'],
  },
  {
    name: 'ids are not checked',
    find: "if (hash('sha256', $text, 'hex') !== $event.id)",
    replace: "if (hash('sha256', $text, 'hex').length !== $event.id.length)",
    tests: ['unit:nostr/event'],
  },
  {
    name: 'events that text cannot hold are stored as they are',
    find: 'const $obstacle = obstacleIn($event.content);',
    replace: 'const $obstacle = null as ReturnType<typeof obstacleIn>;',
    tests: ['unit:nostr/event', 'db:database/bigbrotr'],
  },
  {
    name: 'what a relay claims is published although it was found otherwise',
    find: 'needsAuth($checks) ?? $claims?.auth_required ?? null',
    replace: '$claims?.auth_required ?? needsAuth($checks) ?? null',
    tests: ['unit:nostr/nip66-events'],
  },
  {
    name: 'the shape of a filter behind blocked: is taken for a block',
    find: 'if (filterRefusal) return filterRefusal;',
    replace: 'if (filterRefusal && !prefix) return filterRefusal;',
    tests: ['unit:nostr/filter-refusal', 'db:sync/visit-filter'],
  },
  {
    name: 'a half of a divided filter is lost',
    find: '$sorted.slice($middle)]',
    replace: '$sorted.slice($middle + 1)]',
    tests: ['unit:nostr/filter-parts', 'db:sync/visit-filter'],
  },
  {
    name: 'a NOTICE about writing is taken for an answer to a REQ',
    find: 'if (mentionsWriting($notice)) return false;',
    replace: '',
    tests: ['unit:nostr/notice', 'unit:relay-client/first-request'],
  },
];
