/** Entry: the monitor checks every relay that is due, by the schedule in the archive. */
import { loadMonitorConfig } from './config/load.ts';
import { createMonitor } from './monitor/monitor-service.ts';
import { runService } from './runtime/entrypoint.ts';

await runService((options) => createMonitor(loadMonitorConfig(), options));
