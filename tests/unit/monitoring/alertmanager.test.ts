/** What dockerfiles/alertmanager/entrypoint.sh makes of ALERT_RECEIVER. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test as plainTest } from 'vitest';
import { parse } from 'yaml';
import { projectFile } from '../../processes/project.ts';

const SILENCE = /^$/;
const hasAmtool = spawnSync('amtool', ['--version']).status === 0;

const test = plainTest.extend('start', ({ task: _task }, { onCleanup }) => {
  const folder = mkdtempSync(join(tmpdir(), 'bigbrotr-alertmanager-'));
  onCleanup(() => rmSync(folder, { recursive: true }));
  const config = join(folder, 'alertmanager.yml');
  return (receiver: string) => {
    const { PATH = '' } = process.env;
    const env = {
      PATH,
      ALERT_RECEIVER: receiver,
      ALERTMANAGER: 'true',
      ALERTMANAGER_CONFIG: config,
    };
    const script = projectFile('dockerfiles/alertmanager/entrypoint.sh');
    const { status, stderr } = spawnSync('sh', [script], { env, encoding: 'utf8' });
    if (status === 0 && hasAmtool)
      expect(spawnSync('amtool', ['check-config', config]).status).toBe(0);
    return { status, stderr, receivers: parse(readFileSync(config, 'utf8')).receivers };
  };
});

test.for([
  {
    ...{ receiver: '', says: /^ALERT_RECEIVER is not set: alerts are .* sent to nobody\.\n$/ },
    configured: {},
  },
  {
    ...{ receiver: "https://h.example.com/x?a=b'c", says: SILENCE },
    configured: { webhook_configs: [{ url: "https://h.example.com/x?a=b'c" }] },
  },
  {
    receiver: 'smtp://me%40example.com:p%27w%25d@mail.example.com:587/you@example.com',
    says: SILENCE,
    configured: {
      email_configs: [
        {
          ...{ to: 'you@example.com', from: 'you@example.com', smarthost: 'mail.example.com:587' },
          ...{ require_tls: true, auth_username: 'me@example.com', auth_password: "p'w%d" },
          send_resolved: true,
        },
      ],
    },
  },
  {
    ...{ receiver: 'smtps://mail.example.com:465/you@example.com', says: SILENCE },
    configured: {
      email_configs: [
        {
          ...{ to: 'you@example.com', from: 'you@example.com', smarthost: 'mail.example.com:465' },
          ...{ require_tls: false, send_resolved: true },
        },
      ],
    },
  },
])('ALERT_RECEIVER="$receiver"', ({ receiver, says, configured }, { start }) => {
  const { status, stderr, receivers } = start(receiver);
  expect(status, stderr).toBe(0);
  expect(stderr).toMatch(says);
  expect(receivers).toEqual([{ name: 'operator', ...configured }]);
});

test('refuses what is neither a webhook nor an e-mail', ({ start }) => {
  const { status, stderr } = start('me@example.com');
  expect(status).toBe(1);
  expect(stderr).toMatch(/^ALERT_RECEIVER is neither a URL of a webhook/);
});
