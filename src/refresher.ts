/** Entry: the refresher keeps the figures of the archive: it recounts the days that the journal names. */
import { loadRefresherConfig } from './config/load.ts';
import { createRefresher, REBUILD } from './refresh/refresher-service.ts';
import { runService } from './runtime/entrypoint.ts';

await runService((options) => createRefresher(loadRefresherConfig(), options), [REBUILD]);
