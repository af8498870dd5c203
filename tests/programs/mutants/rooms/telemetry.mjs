export default [
  {
    name: 'health is 200 while the database is down',
    find: "const $works = $database === 'up' && $storing",
    replace: 'const $works = $database && $storing',
    tests: ['unit:telemetry/health'],
  },
  {
    name: 'health is 200 while nothing can be stored',
    find: "storing: $fails ? 'fails' : 'works',",
    replace: "storing: $fails ? 'works' : 'works',",
    tests: ['fault:disk-full'],
  },
];
