import { describe, expect, test } from 'vitest';
import { secretNames } from '../../../src/config/schema.ts';
import { createLogger, createWorkerLogger, prettyStream } from '../../../src/telemetry/logger.ts';

function memory() {
  const lines: string[] = [];
  const write = (line: string) => {
    lines.push(line);
  };
  const last = () => JSON.parse(lines.at(-1) ?? 'null') as Record<string, unknown>;
  return { lines, stream: { write }, last };
}

describe('a line', () => {
  test('has the stable fields', () => {
    const { stream, last } = memory();
    createLogger('monitor', 'info', stream).info({ relay: 'wss://a.example/' }, 'checked');
    const { time, ...rest } = last();
    expect(rest).toEqual({
      level: 'INFO',
      service: 'monitor',
      relay: 'wss://a.example/',
      msg: 'checked',
    });
    expect(new Date(`${time}`).toISOString()).toBe(time);
  });

  test('of a worker names its thread', () => {
    const { stream, last } = memory();
    createWorkerLogger('monitor', 'info', 'worker-1', stream).warn('slow');
    expect(last()).toMatchObject({ level: 'WARN', service: 'monitor', thread: 'worker-1' });
  });

  test('below the level is not written', () => {
    const { stream, lines } = memory();
    const logger = createLogger('monitor', 'warn', stream);
    logger.info('quiet');
    createLogger('monitor', 'silent', stream).fatal('quiet');
    expect(lines).toEqual([]);
    logger.warn('loud');
    expect(lines).toHaveLength(1);
  });
});

describe('secrets', () => {
  test.each(['password', 'secretKey', ...secretNames])('%s is hidden at every depth', (name) => {
    const { stream, lines } = memory();
    const logger = createLogger('monitor', 'info', stream);
    const inside = { [name]: 'hunter2', other: 'seen' };
    logger.info(inside);
    logger.info({ config: inside });
    logger.info({ config: { database: inside } });
    logger.info({ configs: [{ database: inside }] });
    logger.child(inside).info('child');
    expect(lines).toHaveLength(5);
    for (const line of lines) {
      expect(line).not.toContain('hunter2');
      expect(line).toContain('[hidden]');
      expect(line).toContain('seen');
    }
    expect(inside[name]).toBe('hunter2');
  });
});

describe('errors', () => {
  test('keep their code and causes, and no other field', () => {
    const { stream, lines, last } = memory();
    const cause = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', errno: -104 });
    const error = Object.assign(new TypeError('no answer', { cause }), {
      code: '08006',
      reason: 'timeout',
      parameters: ['hunter2'],
    });
    const logger = createLogger('monitor', 'info', stream);
    logger.error({ err: error }, 'failed');
    expect(last().err).toEqual({
      type: 'TypeError',
      message: 'no answer',
      code: '08006',
      reason: 'timeout',
      stack: error.stack,
      cause: {
        type: 'Error',
        message: 'read ECONNRESET',
        code: 'ECONNRESET',
        stack: cause.stack,
      },
    });
    logger.error(error);
    expect(last()).toMatchObject({ err: { code: '08006' }, msg: 'no answer' });
    expect(lines.join()).not.toContain('hunter2');
  });

  test('with circular causes are truncated', () => {
    const { stream, last } = memory();
    const error = new Error('round');
    error.cause = error;
    createLogger('monitor', 'info', stream).error({ err: error });
    expect(last()).toMatchObject({ err: { cause: { cause: { cause: { message: 'round' } } } } });
  });

  test('of several addresses are all logged', () => {
    const { stream, last } = memory();
    const one = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
    createLogger('monitor', 'info', stream).error({ err: new AggregateError([one], 'all failed') });
    expect(last()).toMatchObject({ err: { errors: [{ code: 'ECONNREFUSED' }] } });
  });

  test('that are not Error objects are logged too', () => {
    const { stream, last } = memory();
    createLogger('monitor', 'info', stream).error({ err: 'just text' });
    expect(last().err).toBe('just text');
  });
});

describe('at a terminal', () => {
  test('a line is formatted for reading', () => {
    const { stream, lines } = memory();
    const pretty = prettyStream(stream, false);
    createLogger('monitor', 'info', pretty).info({ relays: 3 }, 'round ended');
    createWorkerLogger('monitor', 'info', 'worker-1', pretty).info('started');
    expect(lines[0]).toMatch(/^\[\d\d:\d\d:\d\d\] INFO: monitor: round ended \{"relays":3\}\n$/);
    expect(lines[1]).toMatch(/INFO: monitor\/worker-1: started\n$/);
  });

  test('control characters from a relay are made visible', () => {
    const { stream, lines } = memory();
    const logger = createLogger('monitor', 'info', prettyStream(stream, false));
    logger.warn({ notice: 'a\x1b[2Jb\x07c\x9b5md' }, 'e\x1b]0;title\x07\x7f');
    const text = lines.join('').replace(/\n$/, '');
    expect(text).toContain('a␛[2Jb␇c\ufffd5md');
    expect(text).toContain('e␛]0;title␇\ufffd');
    expect([...text].filter((character) => /\p{Cc}/u.test(character))).toEqual([]);
  });
});
