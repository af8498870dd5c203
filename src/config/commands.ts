import { type Environment, readVariables } from './environment.ts';
import { initializerVariables, relayVariables, syncVariables } from './schema.ts';

/** What `npm run explain` needs beside the database: the lists of relays, and when relays are visited. */
export interface ExplainConfig {
  /** Null: there is none. */
  readonly blocklistPath: string | null;
  readonly priorityRelaysPath: string;
  readonly seedRelaysPath: string;
  /** From the beginning of a visit to the next one. */
  readonly visitIntervalSeconds: number;
  /** A snapshot that is older does not make a relay readable. */
  readonly readableWithinSeconds: number;
}

/** @throws ConfigError */
export function loadExplainConfig(env?: Environment): ExplainConfig {
  const { SEED_RELAYS_PATH } = initializerVariables;
  const { RELAY_BLOCKLIST_PATH } = relayVariables;
  const {
    SYNCHRONIZER_PRIORITY_RELAYS_PATH,
    SYNCHRONIZER_LOOP_INTERVAL_MINUTES,
    SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS,
  } = syncVariables;
  const { values } = readVariables(
    {
      ...{ SEED_RELAYS_PATH, RELAY_BLOCKLIST_PATH, SYNCHRONIZER_PRIORITY_RELAYS_PATH },
      ...{ SYNCHRONIZER_LOOP_INTERVAL_MINUTES, SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS },
    },
    env,
  );
  return {
    blocklistPath: values.RELAY_BLOCKLIST_PATH,
    priorityRelaysPath: values.SYNCHRONIZER_PRIORITY_RELAYS_PATH,
    seedRelaysPath: values.SEED_RELAYS_PATH,
    visitIntervalSeconds: values.SYNCHRONIZER_LOOP_INTERVAL_MINUTES,
    readableWithinSeconds: values.SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS,
  };
}
