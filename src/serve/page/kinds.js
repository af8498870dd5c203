/** Names of kinds that are frequent on the network (NIP-01 and others). */
const NAMES = new Map(
  [
    ...[
      [0, 'profile'],
      [1, 'note'],
      [3, 'follow list'],
      [4, 'encrypted message'],
      [5, 'deletion'],
    ],
    ...[
      [6, 'repost'],
      [7, 'reaction'],
      [8, 'badge award'],
      [13, 'seal'],
      [14, 'direct message'],
    ],
    ...[
      [16, 'generic repost'],
      [20, 'picture'],
      [21, 'video'],
      [40, 'channel'],
      [42, 'channel message'],
    ],
    ...[
      [1059, 'gift wrap'],
      [1063, 'file'],
      [1111, 'comment'],
      [1311, 'live chat'],
      [1984, 'report'],
    ],
    ...[
      [9734, 'zap request'],
      [9735, 'zap receipt'],
      [10000, 'mute list'],
      [10002, 'relay list'],
    ],
    ...[
      [10050, 'inbox relays'],
      [10166, 'monitor'],
      [22242, 'authentication'],
      [24133, 'remote signing'],
    ],
    ...[
      [30000, 'follow set'],
      [30023, 'article'],
      [30078, 'application data'],
      [30166, 'relay report'],
    ],
    ...[
      [30311, 'live event'],
      [31990, 'application handler'],
      [34550, 'community'],
    ],
  ].map(([kind, name]) => /** @type {[number, string]} */ ([kind, name])),
);

/** @param {number} kind its number, and its name where it has one */
export function kindText(kind) {
  const name = NAMES.get(kind);
  return name ? `${kind} ${name}` : String(kind);
}
