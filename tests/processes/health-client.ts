import { setTimeout as sleep } from 'node:timers/promises';
import type { Program } from './programs.ts';

export interface HealthAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** The health port that a service has taken, as it says in its log; the latest one when it was started again. */
export async function healthPort(program: Program, service: string, start = 1): Promise<number> {
  const lines = () =>
    program.log.filter((line) => line.service === service && line.msg === 'health is served');
  const what = `start ${start} of ${service}`;
  await program.until(() => lines().length >= start, what, 90_000); // `npm start` makes an archive first
  return Number(lines()[start - 1]?.port);
}

/** What the health port answers to a GET; null when nobody listens. */
export async function health(port: number, path = '/health'): Promise<HealthAnswer | null> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, body: (await response.json()) as HealthAnswer['body'] };
  } catch {
    return null;
  }
}

/** Asks /health again and again until it answers so. @throws Error with the last answer when it does not come to. */
export async function untilHealth(
  port: number,
  test: (answer: HealthAnswer) => boolean,
  timeoutMs = 30_000,
): Promise<HealthAnswer> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await health(port);
    if (answer && test(answer)) return answer;
    if (performance.now() > deadline) {
      throw new Error(`/health did not come to it, the last was ${JSON.stringify(answer)}`);
    }
    await sleep(100);
  }
}
