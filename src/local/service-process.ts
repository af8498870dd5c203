import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Environment } from '../config.ts';
import type { StatusReport } from '../service.ts';
import type { Progress } from './progress.ts';

export interface ServiceProcessOptions {
  readonly env: Environment;
  readonly once: boolean;
  readonly progress: Progress;
  /** When it aborts, the service is told to stop. */
  readonly signal: AbortSignal;
}

/** One service as a child process: its log lines and its status go to the progress display. */
export class ServiceProcess {
  /** Its exit code; when a signal ended it, 0 where it had been told to stop and 1 where not. */
  readonly ended: Promise<number>;
  wasReady = false;

  constructor(name: string, { env, once, progress, signal }: ServiceProcessOptions) {
    const file = new URL(`../${name}.js`, import.meta.url);
    const child = fork(file, once ? ['--once'] : [], {
      // getaddrinfo blocks a thread of libuv's pool for seconds on names that are gone; four would be few.
      env: { UV_THREADPOOL_SIZE: '32', ...env },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    const stop = () => child.kill('SIGTERM');
    signal.addEventListener('abort', stop, { once: true });
    child.on('message', (message) => {
      const { service, status } = message as StatusReport;
      this.wasReady ||= status.ready;
      progress.update(service, status);
    });
    this.ended = endOf(child, (line) => progress.line(line), signal).finally(() =>
      signal.removeEventListener('abort', stop),
    );
    if (signal.aborted) stop();
  }
}

function endOf(
  child: ChildProcess,
  onLine: (line: string) => void,
  toldToStop: AbortSignal,
): Promise<number> {
  if (child.stdout) createInterface({ input: child.stdout }).on('line', onLine);
  return new Promise((resolve) => {
    child.once('error', () => resolve(1));
    // A signal ends a service only while it does not listen to signals yet: before it has begun its work.
    child.once('close', (code) => resolve(code ?? (toldToStop.aborted ? 0 : 1)));
  });
}
