/** Entry: the API serves the archive to programs and people, over a connection that only reads. */
import { loadApiConfig } from './config/load.ts';
import { runService } from './runtime/entrypoint.ts';
import { ApiService } from './serve/api/api-service.ts';

await runService((options) => new ApiService(loadApiConfig(), options));
