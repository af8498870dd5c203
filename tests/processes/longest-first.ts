import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files that take the longest, in this order: one of them at the end would keep a single worker busy. */
const LONG = [
  'e2e/own-network-flapping',
  'e2e/own-network',
  'e2e/own-network-archiving',
  'db/sync/visit-model',
  'db/sync/visit-empty-parts',
  'fault/crash-points',
  'e2e/embedded-postgres',
  'fault/worker-crash-points',
  'e2e/foreign-relay',
  'db/sync/visit-listed',
  'hostile/hostile-checks',
  'db/database/migrations',
  'e2e/one-machine',
  'e2e/finder',
  'fault/backup-drill',
  'e2e/real-input',
  'fault/other-crash-points',
  'e2e/hosts',
  'e2e/entrypoints',
  'fuzz/nostr/untrusted-input',
  'tor/tor',
  'fault/disk-full',
  'e2e/wrong-input',
  'db/database/init-sql',
  'db/sync/visit-withheld',
  'hostile/hostile-relays-together',
  'hostile/hostile-relays',
  'e2e/blocked-and-live',
  'e2e/pooler',
  'e2e/postgres-restart',
  'fault/server-crashes',
  'fuzz/sync/paging-model',
  'unit/relay-client/older-answer',
  'unit/relay-client/first-request',
  'unit/runtime/scheduler',
  'unit/network/tor',
  'unit/relay-client/subscription-flow',
  'unit/monitor/checks-capabilities',
  'unit/relay-client/authentication',
  'unit/monitor/probe',
  'unit/nip77/reconcile',
].map((name) => `tests/${name}.test.ts`);

/**
 * Runs the longest files first, and then those of all projects in turn: tests that compute share the cores with tests
 * that wait for processes.
 */
export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const long = LONG.flatMap((name) => sorted.filter(({ moduleId }) => moduleId.endsWith(name)));
    return [...long, ...interleaved(sorted.filter((file) => !long.includes(file)))];
  }
}

/** Spreads the files of each project evenly over the whole run, in the order that they have. */
function interleaved(files: readonly TestSpecification[]): TestSpecification[] {
  const projects = new Set(files.map(({ project }) => project));
  const placed = [...projects].flatMap((project) => {
    const ofProject = files.filter((file) => file.project === project);
    return ofProject.map((file, index) => ({ file, place: (index + 0.5) / ofProject.length }));
  });
  return placed.sort((a, b) => a.place - b.place).map(({ file }) => file);
}
