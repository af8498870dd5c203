export default [
  {
    name: 'NEG-ERR is an empty result',
    find: "return failed(isClientOrFilterRefusal($text) ? 'refused' : 'neg_err', $text);",
    replace: "return isClientOrFilterRefusal($text) ? failed('refused', $text) : { type: 'done' };",
    tests: ['unit:nip77/reconcile', 'db:sync/visit-nip77'],
  },
  {
    name: 'a reconciliation keeps its handlers on a connection that stays open',
    find: 'this.#stopWatching();',
    replace: '',
    tests: ['unit:nip77/reconcile'],
  },
];
