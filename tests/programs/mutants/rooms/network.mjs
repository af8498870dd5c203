export default [
  {
    name: 'names may resolve to any address',
    find: 'const $allowed = $allowPrivate ? $addresses : $addresses.filter($isPublic);',
    replace: 'const $allowed = $allowPrivate || $isPublic ? $addresses : [];',
    tests: ['unit:network/address', 'unit:relay-client/connection'],
  },
  {
    name: 'address literals are not checked',
    find: 'const $forbidden = $allowed ? null : forbiddenHost($url);',
    replace: 'const $forbidden = $allowed || forbiddenHost($url) ? null : null;',
    tests: ['unit:relay-client/connection'],
  },
  {
    name: 'a learnt limit never expires',
    find: 'Math.abs($now - ($pageLimitAt ?? 0)) > LARGER_PAGE_SECONDS;',
    replace: 'Math.abs($now - ($pageLimitAt ?? 0)) > 1e6 * LARGER_PAGE_SECONDS;',
    tests: ['db:sync/visit-page-size'],
  },
  {
    name: 'pauses do not grow',
    find: '$first * 2 ** Math.min($policy.refusals, 20)',
    replace: '$first * 2 ** Math.min(0 * $policy.refusals, 20)',
    tests: ['unit:network/relay-policy'],
  },
  {
    name: 'a timeout behind Tor always counts against the relay',
    find: "return (await torHasCircuits($proxy, $timeout, $signal)) ? reason : 'proxy_down';",
    replace: 'return (await torHasCircuits($proxy, $timeout, $signal)) ? reason : reason;',
    tests: ['unit:network/tor', 'db:sync/visit-tor'],
  },
  {
    name: 'a timeout behind Tor always counts as proxy_down',
    find: "return (await torHasCircuits($proxy, $timeout, $signal)) ? reason : 'proxy_down';",
    replace:
      "return (await torHasCircuits($proxy, $timeout, $signal)) ? 'proxy_down' : 'proxy_down';",
    tests: ['unit:network/tor', 'db:sync/visit-tor'],
  },
  {
    name: 'all relays share circuits',
    find: 'userId: $user,',
    replace: "userId: $user.slice(0, 0) + 'bigbrotr',",
    tests: ['unit:network/tor'],
  },
  {
    name: 'a deadline expires before received data is read',
    find: '$afterReading = setImmediate($onExpired);',
    replace: '$onExpired();',
    tests: ['unit:network/deadline'],
  },
  {
    name: 'Retry-After has no upper bound',
    find: 'Math.min($seconds, LONGEST_RETRY_AFTER)',
    replace: '$seconds',
    tests: ['unit:network/retry-after', 'db:sync/visit-words'],
  },
  {
    name: 'an address that has not answered yet is abandoned for the next one',
    find: 'next += 1;',
    replace: `next += 1;
      for (const slow of pending) onFailed(slow, new Error());`,
    tests: ['unit:network/dial'],
  },
  {
    name: 'an outage of our own network counts against the relay',
    in: 'network/own-network',
    find: "this.#isOurs($parts, $since ?? $startedMs, $endedMs) ? 'network_down' : reason",
    replace: 'this.#isOurs($parts, $since ?? $startedMs, $endedMs) ? reason : reason',
    tests: ['unit:network/own-network'],
  },
  {
    name: 'an outage of our own network begins when it is noticed',
    in: 'network/part-health',
    find: 'this.#outage = { fromMs: this.workedMs, noticedMs: now };',
    replace: 'this.#outage = { fromMs: now, noticedMs: now };',
    tests: ['unit:network/own-network'],
  },
  {
    name: 'dead relays are taken for an outage of our own network',
    in: 'network/own-network',
    find: 'const works = await this.#wayOut.works($part, health.known($startedMs));',
    replace:
      'const works = (await this.#wayOut.works($part, health.known($startedMs))) && health.workedMs > startedMs;',
    tests: ['unit:network/own-network'],
  },
  {
    name: 'work at a relay goes on when the blocklist comes to name it',
    in: 'network/blocklist-watch',
    find: 'for (const callback of callbacks) callback();',
    replace: '',
    tests: ['unit:network/blocklist'],
  },
];
