export default [
  {
    name: 'a check calls every certificate valid',
    find: 'const $problem = $socket.authorized ? null :',
    replace: 'const $problem = $socket.encrypted ? null :',
    tests: ['unit:monitor/checks-tls'],
  },
  {
    name: 'a check looks at certificates on forbidden addresses',
    in: 'monitor/checks/tls',
    find: 'openSocket(url, { ...ctx, timeoutMs }, ended, tls)',
    replace: 'openSocket(url, { ...ctx, allowPrivate: true, timeoutMs }, ended, tls)',
    tests: ['unit:monitor/checks-tls'],
  },
  {
    name: 'a check asks for the names of private addresses',
    find: 'if (!$allowPrivate && forbiddenAddress($address) !== null) return [];',
    replace: 'if (!$allowPrivate && forbiddenAddress($address) === $address) return [];',
    tests: ['unit:monitor/checks-dns'],
  },
  {
    name: 'a check takes NIP-77 for done though nothing is listed',
    find: '$known ? $need.includes($known.id) : true',
    replace: '$known ? $need.length >= 0 : true',
    tests: ['unit:monitor/checks-capabilities'],
  },
  {
    name: 'the profile of a person is replaced',
    find: 'if ($newest && $isPersonal && !isOurs($newest))',
    replace: 'if ($newest && $isPersonal && isOurs($newest))',
    tests: ['unit:monitor/publisher'],
  },
  {
    name: 'rate-limited: is taken to mean one event alone',
    find: "rate_limited: 'rate_limited',",
    replace: '',
    tests: ['unit:monitor/publisher'],
  },
  {
    name: 'a relay that ends the workers of the monitor is due again at once',
    find: 'if ($outcome.crashesWorker) await setAside(',
    replace: "if ($outcome.crashesWorker && relay.url === '') await setAside(",
    tests: ['fault:other-crash-points'],
  },
  {
    name: 'publishing counts failures of our own network against a relay',
    in: 'monitor/publish/publisher',
    find: 'if (isOurFailure($reason)) this.#pauseForOurs($reason);',
    replace: 'if (isOurFailure($reason) && $reason.length === 0) this.#pauseForOurs($reason);',
    tests: ['unit:monitor/publisher'],
  },
];
