/** Entry: the finder reads which relays events name, asks those that are not known yet, and adds the ones that answer. */
import { loadFinderConfig } from './config/load.ts';
import { createFinder } from './finder/finder-service.ts';
import { runService } from './runtime/entrypoint.ts';

await runService((options) => createFinder(loadFinderConfig(), options));
