/** How the relays behave whose names end so. */
export const KINDS = {
  alive: 'alive.net',
  /** Each answer takes two seconds. */
  slow: 'slow.net',
  /** Takes the connection and says nothing. */
  mute: 'mute.net',
  refusing: 'refusing.net',
  /** No packet comes back. */
  blackhole: 'blackhole.net',
  /** There is no such name. */
  nowhere: 'nowhere.net',
  /** Its name server does not answer. */
  nameless: 'nameless.net',
} as const;

/** Address of the relays that are alive. */
export const ALIVE = '44.0.0.1';
