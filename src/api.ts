/** Entry: the API serves the archive to programs and people, over a connection that only reads. */
import { loadApiConfig } from './config/load.ts';
import { runService } from './runtime/entrypoint.ts';
import { lowerPriority } from './runtime/priority.ts';
import { createApi } from './serve/api/api-service.ts';

lowerPriority();
await runService((options) => createApi(loadApiConfig(), options));
