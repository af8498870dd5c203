/** URLs by which a stranger would make a service connect into its own network. None may be connected to. */

export interface AdversarialUrl {
  readonly url: string;
  /** What the URL tries. */
  readonly trick: string;
}

const INTERNAL_IPV4: readonly (readonly [string, string])[] = [
  ['loopback', '127.0.0.1'],
  ['loopback, not the usual one', '127.8.9.10'],
  ['private 10/8', '10.0.0.5'],
  ['private 172.16/12', '172.31.255.254'],
  ['private 192.168/16', '192.168.1.1'],
  ['cloud metadata', '169.254.169.254'],
  ['carrier-grade NAT', '100.127.255.254'],
  ['this network', '0.0.0.0'],
  ['multicast', '239.1.2.3'],
  ['broadcast', '255.255.255.255'],
  ['reserved', '240.0.0.1'],
  ['benchmarking', '198.19.0.1'],
  ['documentation', '203.0.113.7'],
];

/** Notations that the WHATWG URL parser reads as the same IPv4 address. */
const IPV4_NOTATIONS: Readonly<Record<string, (octets: readonly number[]) => string>> = {
  plain: (octets) => octets.join('.'),
  'one number': (octets) => String(joined(octets)),
  'one hexadecimal number': (octets) => `0x${joined(octets).toString(16)}`,
  'one octal number': (octets) => `0${joined(octets).toString(8)}`,
  'hexadecimal octets': (octets) => octets.map((octet) => `0X${octet.toString(16)}`).join('.'),
  'octal octets': (octets) => octets.map((octet) => `00${octet.toString(8)}`).join('.'),
  'two parts': ([a = 0, ...rest]) => `${a}.${joined([0, ...rest])}`,
  'three parts': ([a = 0, b = 0, ...rest]) => `${a}.${b}.${joined([0, 0, ...rest])}`,
  'trailing dot': (octets) => `${octets.join('.')}.`,
  'full-width digits': (octets) =>
    octets.join('.').replace(/\d/g, (digit) => String.fromCharCode(0xff10 + Number(digit))),
  'ideographic full stops': (octets) => octets.join('。'),
  'percent-encoded digits': (octets) => octets.join('.').replace(/\d/g, (digit) => `%3${digit}`),
};

function joined(octets: readonly number[]): number {
  return octets.reduce((sum, octet) => sum * 256 + octet, 0);
}

const ipv4 = INTERNAL_IPV4.flatMap(([what, address]) =>
  Object.entries(IPV4_NOTATIONS).map(([notation, write]) => ({
    url: `ws://${write(address.split('.').map(Number))}:7777`,
    trick: `${what}, ${notation}`,
  })),
);

/** IPv6 addresses that carry an IPv4 one, given as two groups of hexadecimal digits. */
const CARRIERS: Readonly<Record<string, (groups: string) => string>> = {
  'IPv4-mapped': (groups) => `::ffff:${groups}`,
  'IPv4-mapped, in full': (groups) => `0000:0000:0000:0000:0000:FFFF:${groups}`,
  'IPv4-compatible': (groups) => `::${groups}`,
  'IPv4-translated': (groups) => `::ffff:0:${groups}`,
  NAT64: (groups) => `64:ff9b::${groups}`,
  'NAT64 of a site': (groups) => `64:ff9b:1::${groups}`,
  '6to4': (groups) => `2002:${groups}::1`,
  Teredo: (groups) => `2001:0:${groups}::1`,
};

const carriers = ['7f00:1', 'a00:5', 'a9fe:a9fe'].flatMap((groups) =>
  Object.entries(CARRIERS).map(([trick, write]) => ({
    url: `ws://[${write(groups)}]:7777`,
    trick,
  })),
);

const list = (trick: string, urls: readonly string[]): AdversarialUrl[] =>
  urls.map((url) => ({ url, trick }));

export const ADVERSARIAL_URLS: readonly AdversarialUrl[] = [
  ...ipv4,
  ...carriers,
  ...list('IPv4 inside IPv6 with dots', [
    'ws://[::ffff:127.0.0.1]',
    'wss://[::FFFF:192.168.0.1]:443',
    'ws://[::127.0.0.1]',
    'ws://[64:ff9b::10.0.0.1]',
  ]),
  ...list('IPv6 that is not public', [
    'ws://[::1]',
    'ws://[0:0:0:0:0:0:0:1]:7777',
    'ws://[::]',
    'ws://[fe80::1]',
    'ws://[fe80::1%25eth0]',
    'ws://[fe80::1%eth0]',
    'ws://[febf::1]',
    'ws://[fec0::1]',
    'ws://[fc00::1]',
    'ws://[fdff:ffff::1]',
    'ws://[ff02::1]',
    'ws://[ff0e::1]',
    'ws://[100::1]',
    'ws://[200:ff08:d688:fef4:fc96:ba63:3a11:3e76]',
    'ws://[2001:db8::1]',
    'ws://[2001:2::1]',
    'ws://[2001:10::1]',
    'ws://[2001:20::1]',
    'ws://[3fff::1]',
    'ws://[5f00::1]',
    'ws://[4000::1]',
    'ws://[8000::1]',
  ]),
  ...list('short forms of IPv4', [
    'ws://127.1',
    'ws://127.1:7777/x',
    'ws://0x7f.1',
    'ws://0x7f000001',
    'ws://017700000001',
    'ws://0',
    'ws://0x',
    'ws://127.0x.0x1',
    'ws://10.1',
    'ws://192.168.257',
    'ws://①②⑦.⓪.⓪.①',
  ]),
  ...list('names that are not public', [
    'ws://localhost',
    'ws://LOCALHOST:7777',
    'ws://localhost.',
    'ws://relay.localhost',
    'ws://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:7777',
    'ws://ｌｏｃａｌｈｏｓｔ',
    'ws://loc%61lhost',
    'ws://localhost.localdomain',
    'ws://database',
    'ws://pgbouncer:7777',
    'ws://torproxy.',
    'ws://relay_1:8080',
    'ws://onion',
    'ws://metadata.google.internal',
    'ws://host.docker.internal:7777',
    'ws://umbrel.local:4848',
    'ws://router.lan',
    'ws://nas.home.arpa:4848',
    'ws://1.0.0.127.in-addr.arpa',
    'ws://fritz.home',
    'ws://git.corp',
    'ws://wiki.intranet',
    'ws://relay.test',
    'ws://relay.invalid',
    'ws://relay.example',
    'ws://relay.example.com',
    'ws://EXAMPLE.org.',
  ]),
  ...list('a public name that resolves to an internal address', [
    'ws://127.0.0.1.nip.io',
    'ws://10.0.0.1.sslip.io:7777',
    'ws://localtest.me',
    'wss://lvh.me',
    'ws://spoofed.burpcollaborator.net',
    'ws://rebind.network.',
    'ws://xn--rel-dma.damus.io',
    'ws://a_b.relay.network/path?query=1',
  ]),
  ...list('a second host in the user name, the fragment or the path', [
    'ws://relay.damus.io@127.0.0.1',
    'ws://relay.damus.io:443@127.0.0.1:7777/',
    'ws://relay.damus.io%40127.0.0.1',
    'ws://127.0.0.1#@relay.damus.io',
    'ws://127.0.0.1?@relay.damus.io',
    'ws://127.0.0.1/@relay.damus.io',
    'ws://127.0.0.1\\@relay.damus.io',
    'ws://relay.damus.io\\@127.0.0.1',
    'ws://@127.0.0.1',
    'ws://:@127.0.0.1',
    'ws://127.0.0.1:7777,wss://relay.damus.io',
    'ws://127.0.0.1 wss://relay.damus.io',
    'wss://relay.damus.iows://127.0.0.1',
    'ws://[::1]@relay.damus.io',
    'ws://relay.damus.io@[::1]',
  ]),
  ...list('white space, controls and line ends', [
    'ws://127.0.0.1\t',
    'w\ns://127.0.0.1',
    'ws://127.0.\n0.1',
    'ws://127.0.0.1\r\nHost: relay.damus.io',
    'ws://127.0.0.1%00.damus.io',
    'ws://127.0.0.1\u0000.damus.io',
    'ws://local\u00adhost',
    'ws://local\u200bhost',
    'ws://\u202e1.0.0.721',
    'ws://127.0.0.1%0d%0a',
    'ws://127.0.0.1/%0d%0aX-Header:%20x',
    'ws://127.0.0.1/\ud800',
  ]),
  ...list('another scheme, or slashes that are missing or turned', [
    'http://127.0.0.1',
    'https://127.0.0.1',
    'ftp://127.0.0.1',
    'file:///etc/passwd',
    'gopher://127.0.0.1:6379/_INFO',
    'javascript:alert(1)',
    'data:text/plain,x',
    'ws+unix:///var/run/docker.sock',
    'unix:/var/run/postgresql/.s.PGSQL.5432',
    'ws:127.0.0.1',
    'ws:/127.0.0.1',
    'ws:///127.0.0.1',
    'ws:////127.0.0.1',
    'ws:\\\\127.0.0.1',
    'ws:/\\127.0.0.1',
    '//127.0.0.1',
    '127.0.0.1:7777',
    'localhost:7777',
    '',
    'ws://',
  ]),
  ...list(
    'a port where no relay is, at a public name',
    [22, 23, 25, 53, 110, 143, 445, 465, 587, 993, 2375, 3306, 5432, 6379, 6432, 9050, 11211, 27017]
      .map((port) => `ws://relay.damus.io:${port}`)
      .concat(['ws://relay.damus.io:0', 'ws://relay.damus.io:65536', 'wss://1.1.1.1:05432']),
  ),
  ...list('a name of another network, which DNS must not be asked for', [
    'ws://oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion',
    'ws://sub.oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion.',
    'ws://OXTRDEVAV64Z64YB7X6RJG4NTZQJHEDM5B5ZJQULUGKNHZR46NY2QBAD.ONION:7777',
    'ws://expyuzz4wqqyqhjn.onion',
    'ws://relay.i2p',
    'ws://relay.loki',
  ]),
];
