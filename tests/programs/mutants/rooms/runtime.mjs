export default [
  {
    name: 'a free slot waits until everything that runs has ended',
    find: 'const $free = this.#options.freeSlots();',
    replace: 'const $free = this.#running.size > 0 ? 0 : this.#options.freeSlots();',
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
