export default [
  {
    name: 'a timeout is taken for EOSE',
    find: "this.#finish({ type: 'timeout', $text, ...(!$silent && { isSlow: true }) });",
    replace: "this.#finish({ type: 'eose' });",
    tests: ['unit:relay-client/subscription', 'db:sync/lessons'],
  },
  {
    name: 'compression is on',
    find: 'perMessageDeflate: false,',
    replace: 'perMessageDeflate: true,',
    tests: ['unit:relay-client/connection'],
  },
  {
    name: 'frames have no bound',
    find: 'maxPayload: $options.maxMessageBytes ?? MAX_MESSAGE_BYTES,',
    replace: 'maxPayload: 0 * ($options.maxMessageBytes ?? MAX_MESSAGE_BYTES),',
    tests: ['unit:relay-client/open-connection'],
  },
  {
    name: 'what is of no use is read without a wait',
    find: 'const $waitMs = (1000 * $unpaid * this.#waiting) / this.#bytesPerSecond;',
    replace: 'const $waitMs = (0 * $unpaid * this.#waiting) / this.#bytesPerSecond;',
    tests: ['unit:relay-client/junk-limit'],
  },
  {
    name: 'a relay that is held counts as silent',
    find: 'this.#connection.isReadingPaused ? Number.POSITIVE_INFINITY : $patience',
    replace: 'this.#connection.isPausedByReader ? Number.POSITIVE_INFINITY : $patience',
    tests: ['unit:relay-client/subscription-flow'],
  },
  {
    name: 'relays of a thread may each hold as much as they like',
    find: 'const $isCrowded = this.#paused && $inFlight.isSpent;',
    replace: 'const $isCrowded = this.#paused && $inFlight.isSpent && false;',
    tests: ['unit:relay-client/subscription-flow'],
  },
  {
    name: 'the first reader that resumes lets a socket go on that others paused',
    find: 'this.#pausedBy.delete($by);',
    replace: 'this.#pausedBy.clear();',
    tests: ['unit:relay-client/back-pressure'],
  },
  {
    name: 'a page is timed out while a sibling holds the socket up',
    find: 'this.#connection.isReadingPaused ? Number.POSITIVE_INFINITY : $patience',
    replace: 'this.#connection.isThrottled ? Number.POSITIVE_INFINITY : $patience',
    tests: ['unit:relay-client/back-pressure'],
  },
  {
    name: 'an answer is waited for while nobody reads it',
    find: '$counts = !$flow.isPausedByReader;',
    replace: '$counts = true;',
    tests: ['unit:relay-client/back-pressure'],
  },
  {
    name: 'answers to a reconciliation are junk to its siblings',
    find: '|| $exchanges.has($message.subscription)',
    replace: '',
    tests: ['unit:relay-client/back-pressure'],
  },
  {
    name: 'a REQ is not sent again where AUTH got no OK',
    find: "return now !== 'impossible' && !isLate && before !== 'refused';",
    replace:
      "return now !== 'impossible' && now !== 'unanswered' && !isLate && before !== 'refused';",
    tests: ['unit:relay-client/authentication', 'db:sync/visit-auth'],
  },
  {
    name: 'authentications are counted over the life of a connection',
    find: `noteServed(): void {
    this.#attempts = 0;`,
    replace: `noteServed(): void {
    this.#attempts += 0;`,
    tests: ['unit:relay-client/authentication', 'db:sync/visit-auth'],
  },
  {
    name: 'a greeting shortens the wait for the first REQ',
    find: 'if (this.#isFirst && !isCertainlyAbout($text, this.id)) return;',
    replace: 'if (this.#isFirst && $text === this.id) return;',
    tests: ['unit:relay-client/first-request'],
  },
  {
    name: 'a refusal in the close frame is not read',
    find: '...($refusal !== null && { $refusal })',
    replace: '...($refusal !== null && {})',
    tests: ['unit:relay-client/first-request', 'db:sync/visit-words'],
  },
  {
    name: 'the second answer to a REQ that was sent again is taken for junk',
    find: `$requests.copiesLeft -= 1;
  return true;`,
    replace: `$requests.copiesLeft -= 1;
  return false;`,
    tests: ['unit:relay-client/first-request'],
  },
  {
    name: 'a lost first REQ is not sent again',
    find: '$connection.isOpen && !$connection.isReadingPaused && send()',
    replace: '$connection.isOpen && $connection.isReadingPaused && send()',
    tests: ['unit:relay-client/first-request', 'db:sync/visit-words'],
  },
  {
    name: 'a relay whose newest event cannot be sent is not asked for older ones',
    in: 'relay-client/older-answer',
    find: 'if (reason === null || !LOST.has(reason)',
    replace: 'if (reason === null || LOST.has(reason)',
    tests: ['unit:relay-client/older-answer', 'db:sync/visit-poisoned-newest'],
  },
  {
    name: 'older events are asked for on the connection that hangs',
    in: 'relay-client/older-answer',
    find: "const wasAskedTwice = index > 0 && reason === 'timeout';",
    replace: "const wasAskedTwice = index > 9 && reason === 'timeout';",
    tests: ['unit:relay-client/older-answer'],
  },
  {
    name: 'a refused AUTH ends a request that is served all the same',
    in: 'relay-client/authentication',
    find: "const isLate = before === 'unanswered' && now === 'refused';",
    replace: "const isLate = now === 'refused';",
    tests: ['unit:relay-client/authentication', 'db:sync/visit-auth'],
  },
  {
    name: 'a challenge before silence is not answered',
    in: 'relay-client/authentication',
    find: 'challenge !== this.#latest?.challenge && !this.#isAnswering;',
    replace: 'challenge === this.#latest?.challenge && !this.#isAnswering;',
    tests: ['unit:relay-client/authentication', 'db:sync/visit-auth-remembered'],
  },
];
