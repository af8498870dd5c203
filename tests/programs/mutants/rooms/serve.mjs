export default [
  {
    name: 'a cursor of another question is taken',
    find: 'if (tag === question && isOurs && parsed.success)',
    replace: 'if (parsed.success)',
    tests: ['db:serve/api-events'],
  },
  {
    name: 'what refers to an event by its address is not found',
    find: 'const address = event && addressOf(event);',
    replace: 'const address = event && null;',
    tests: ['db:serve/api-events'],
  },
  {
    name: 'a relay counts as complete when something of it is proven',
    find: 'shares.filter((share) => share === 1).length',
    replace: 'shares.filter((share) => share > 0).length',
    tests: ['db:serve/api-relays'],
  },
  {
    name: 'a stream goes on when its client has gone',
    find: 'ending.abort(); destroy(error, done);',
    replace: 'destroy(error, done);',
    tests: ['unit:serve/streams'],
  },
  {
    name: 'one stream more than allowed is open',
    find: 'if (this.#open >= this.#most)',
    replace: 'if (this.#open > this.#most)',
    tests: ['unit:serve/streams'],
  },
  {
    name: 'each path is a time series of its own',
    find: 'onAnswered(config?.measuredAs ?? url ??',
    replace: 'onAnswered(request.url ?? config?.measuredAs ?? url ??',
    tests: ['db:serve/api-metrics'],
  },
  {
    name: 'a cursor of changes forgets where in a batch it is',
    find: 'return passed === null ?',
    replace: 'return passed !== undefined ?',
    tests: ['db:serve/api-changes'],
  },
  {
    name: 'the ETag changes with the time of the answer',
    find: 'text.slice(0, text.lastIndexOf(META))',
    replace: 'text.slice(0, text.length + text.lastIndexOf(META))',
    tests: ['unit:serve/entity-tag'],
  },
];
