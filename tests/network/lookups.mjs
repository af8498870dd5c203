/**
 * Loaded before a program and each of its threads (`node --import`): writes every name that is looked up into the
 * file that BIGBROTR_LOOKUPS names. node:net, undici and our own guard all ask through node:dns.
 */
import { appendFileSync } from 'node:fs';
import { createRequire, syncBuiltinESMExports } from 'node:module';

const dns = createRequire(import.meta.url)('node:dns');
const path = process.env.BIGBROTR_LOOKUPS;

function listenTo(functions) {
  for (const [name, original] of Object.entries(functions)) {
    if (typeof original !== 'function' || !/^(lookup|resolve)/.test(name)) continue;
    functions[name] = Object.assign(function heard(asked, ...rest) {
      appendFileSync(path, `${asked}\n`);
      return Reflect.apply(original, this, [asked, ...rest]);
    }, original);
  }
}

listenTo(dns);
listenTo(dns.promises);
listenTo(dns.Resolver.prototype);
listenTo(dns.promises.Resolver.prototype);
syncBuiltinESMExports();
