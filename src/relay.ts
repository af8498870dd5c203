/** Entry: the relay serves the archive to clients of Nostr, over a connection that only reads. */
import { loadRelayConfig } from './config/load.ts';
import { runService } from './runtime/entrypoint.ts';
import { createRelay } from './serve/relay/relay-service.ts';

await runService((options) => createRelay(loadRelayConfig(), options));
