export default [
  {
    name: 'a free slot waits until everything that runs has ended',
    find: 'if (this.#options.freeSlots() <= 0) return;',
    replace: 'if (this.#running.size > 0) return;',
    tests: ['unit:runtime/due-loop'],
  },
  {
    name: 'what a look-up has left is not taken by free slots',
    find: 'this.#spare.length > 0 && nowMs >= this.#nextSpareMs',
    replace: 'this.#spare.length < 0 && nowMs >= this.#nextSpareMs',
    tests: ['unit:runtime/due-loop'],
  },
  {
    name: 'caught-up relays leave no slot to backlog',
    find: '< this.#slots - $kept;',
    replace: '< this.#slots;',
    tests: ['unit:runtime/lanes'],
  },
  {
    name: 'worker slots are renumbered when one is given up',
    find: 'const $own = number % this.#slots.length;',
    replace: 'const $own = number % this.#livingSlots.length;',
    tests: ['unit:runtime/scheduler'],
  },
];
