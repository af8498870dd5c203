export default [
  {
    name: 'a recount does not take away what was counted of the day before',
    find: 'select scope, author_id, kind, -events, null, null from',
    replace: 'select scope, author_id, kind, 0 * events, null, null from',
    tests: ['db:refresh/figures-model'],
  },
  {
    name: 'a recount is applied although another one of the day has begun',
    find: 'if (isOurs) await work(query);',
    replace: 'await work(query);',
    tests: ['db:refresh/recount'],
  },
  {
    name: 'readers of the journal wait for the transaction that counts a day',
    find: "await reading('set transaction read only');",
    replace: "await reading('select pg_current_xact_id()');",
    tests: ['db:refresh/recount'],
  },
  {
    name: 'a recount that began before a rebuild ends the rebuild of its day',
    find: 'is_rebuild = is_rebuild and not $3 where',
    replace: 'is_rebuild = is_rebuild and $3 where',
    tests: ['db:refresh/recount'],
  },
  {
    name: 'a day that changed while it was counted is not counted again',
    find: "'delete from dirty_days where day = $1 and marks = $2'",
    replace: "'delete from dirty_days where day = $1 and marks >= $2'",
    tests: ['db:refresh/figures-model'],
  },
  {
    name: 'an event counts for the network of its first relay only',
    find: 'bit_or(r.bit) as networks',
    replace: 'min(r.bit) as networks',
    tests: ['db:refresh/figures-model'],
  },
  {
    name: 'parts of a day stay when it grows',
    find: 'part.parts < parts &&',
    replace: 'part.parts > parts &&',
    tests: ['db:refresh/recount'],
  },
  {
    name: 'of two current events of one second the higher id wins',
    find: 'order by a.author_id, e.kind, e.d_key, e.event_key >> 24 desc, e.id',
    replace: 'order by a.author_id, e.kind, e.d_key, e.event_key >> 24 desc, e.id desc',
    tests: ['db:refresh/figures-model'],
  },
  {
    name: 'figures are as of the time when a change was read, not when it was made',
    in: 'init.sql',
    find: '(select min(since) - 1 from dirty_days)',
    replace: '(select min(marked_at) - 1 from dirty_days)',
    tests: ['db:refresh/views'],
  },
];
