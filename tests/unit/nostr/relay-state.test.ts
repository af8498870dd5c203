import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { REFUSALS_OF_LIVING_RELAYS, relayState } from '../../../src/nostr/relay-state.ts';
import { projectFile } from '../../processes/project.ts';

test('relay_state of init.sql calls a relay up after the same refusals', () => {
  const sql = readFileSync(projectFile('init.sql'), 'utf8');
  const body = /function relay_state\(.*?;/s.exec(sql)?.[0] ?? '';
  const up = /p_reason in \((.*?)\) then 'up'/s.exec(body)?.[1] ?? '';
  const words = [...up.matchAll(/'(\w+)'/g)].map(([, word]) => word);
  expect(words.sort()).toEqual([...REFUSALS_OF_LIVING_RELAYS].sort());
});

test('a refusal counts only after the WebSocket has opened', () => {
  for (const reason of REFUSALS_OF_LIVING_RELAYS) {
    expect(relayState({ openable: true, readable: false, reason })).toBe('up');
    expect(relayState({ openable: false, readable: false, reason })).toBe('down');
  }
});
