/**
 * Loaded into every program of a soak, and each of its threads, ahead of its own code (`node --require`): no socket
 * leads anywhere but to this machine, and no name is looked up. Who tries is told on standard error, which fails the
 * soak.
 */
{
  const net = process.getBuiltinModule('node:net');
  const dns = process.getBuiltinModule('node:dns');
  const fs = process.getBuiltinModule('node:fs');
  const STANDARD_ERROR = 2;

  const refusal = (what: string): Error => {
    const error = new Error(`no way out of this machine: ${what}`);
    fs.writeSync(STANDARD_ERROR, `${error.message}\n`);
    return error;
  };

  /** What was given to `connect` of node:net, which its own callers wrap in an array; null for a socket file. */
  const hostOf = (given: readonly unknown[]): string | null => {
    const [first, second] = given.length === 1 && Array.isArray(given[0]) ? given[0] : given;
    if (typeof first === 'number') return typeof second === 'string' ? second : 'localhost';
    if (typeof first !== 'object' || first === null || ('path' in first && first.path)) return null;
    return 'host' in first && typeof first.host === 'string' ? first.host : 'localhost';
  };

  const isHere = (host: string | null): boolean => {
    if (host === null || host === 'localhost' || host === '::1') return true;
    return net.isIPv4(host) && host.startsWith('127.');
  };

  /** The address that this service connects from, so that relays know it from others. */
  const from = process.env.SOAK_ADDRESS;
  const leaveFrom = (given: readonly unknown[]): void => {
    const [first] = given.length === 1 && Array.isArray(given[0]) ? given[0] : given;
    const isOptions = typeof first === 'object' && first !== null && 'host' in first;
    if (from && isOptions && String(first.host).startsWith('127.'))
      Object.assign(first, { localAddress: from });
  };

  type Connect = (this: InstanceType<typeof net.Socket>, ...given: unknown[]) => unknown;
  const socket = net.Socket.prototype as unknown as { connect: Connect };
  const { connect } = socket;
  socket.connect = function (...given) {
    const host = hostOf(given);
    if (isHere(host)) {
      leaveFrom(given);
      return connect.apply(this, given);
    }
    return this.destroy(refusal(`a socket to ${host}`));
  };

  const replace = (owner: object, by: (...given: unknown[]) => unknown): void => {
    for (const name of Object.getOwnPropertyNames(owner))
      if (/^(resolve|reverse)/.test(name)) Object.defineProperty(owner, name, { value: by });
  };
  for (const owner of [dns, dns.Resolver.prototype])
    replace(owner, (name, ...given) => {
      const error = refusal(`a look-up of ${name}`);
      const callback = given.at(-1);
      if (typeof callback === 'function') process.nextTick(callback, error);
    });
  for (const owner of [dns.promises, dns.promises.Resolver.prototype])
    replace(owner, (name) => Promise.reject(refusal(`a look-up of ${name}`)));
  process.getBuiltinModule('node:module').syncBuiltinESMExports();
}
