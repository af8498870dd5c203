import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Environment } from '../config/load.ts';
import type { StatusReport } from '../runtime/service.ts';
import type { Progress } from './progress.ts';

interface ServiceProcessOptions {
  readonly env: Environment;
  readonly once: boolean;
  readonly progress: Progress;
  /** When it aborts, the service is stopped by SIGTERM. */
  readonly signal: AbortSignal;
}

/** One service as a child process: its log lines and its status go to the progress display. */
export class ServiceProcess {
  /** Its exit code; when a signal ended it, 0 if it was being stopped, else 1. */
  readonly ended: Promise<number>;
  wasReady = false;

  constructor(name: string, { env, once, progress, signal }: ServiceProcessOptions) {
    const file = new URL(`../${name}.js`, import.meta.url);
    const child = fork(file, once ? ['--once'] : [], {
      // getaddrinfo blocks a thread of libuv's pool for seconds on names that no longer exist; the default is four.
      env: { UV_THREADPOOL_SIZE: '32', ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const stop = () => child.kill('SIGTERM');
    signal.addEventListener('abort', stop, { once: true });
    child.on('message', (message) => {
      const { service, status } = message as StatusReport;
      this.wasReady ||= status.ready;
      progress.update(service, status);
    });
    if (child.stderr)
      createInterface({ input: child.stderr }).on('line', (line) => progress.errorLine(line));
    this.ended = endOf(child, (line) => progress.line(line), signal).finally(() =>
      signal.removeEventListener('abort', stop),
    );
    if (signal.aborted) stop();
  }
}

function endOf(
  child: ChildProcess,
  onLine: (line: string) => void,
  stopping: AbortSignal,
): Promise<number> {
  if (child.stdout) createInterface({ input: child.stdout }).on('line', onLine);
  return new Promise((resolve) => {
    child.once('error', () => resolve(1));
    // A signal ends a service only before it handles signals, which is before it starts its work.
    child.once('close', (code) => resolve(code ?? (stopping.aborted ? 0 : 1)));
  });
}
