import { describe, expect, test } from 'vitest';
import { parseSoakArguments, UsageError } from '../../programs/soak/arguments.ts';

describe('the arguments of a soak', () => {
  test('are minutes, a seed, or --quick; without them it takes 5 minutes and any seed', () => {
    expect(parseSoakArguments([])).toMatchObject({ minutes: 5, quick: false });
    expect(parseSoakArguments(['15'])).toMatchObject({ minutes: 15 });
    expect(parseSoakArguments(['0.5', '--seed', '123'])).toMatchObject({ minutes: 0.5, seed: 123 });
    expect(parseSoakArguments(['--seed', '0', '7'])).toMatchObject({ minutes: 7, seed: 0 });
    expect(parseSoakArguments(['--quick', '--seed', '4'])).toMatchObject({ quick: true, seed: 4 });
    expect(Number.isSafeInteger(parseSoakArguments([]).seed)).toBe(true);
  });

  test.each([
    [['0'], '0 is no number of minutes above 0'],
    [['-5'], '-5 is no number of minutes'],
    [['five'], 'five is no number of minutes'],
    [['1e3'], '1e3 is no number of minutes'],
    [['99999'], 'up to 1440'],
    [[''], 'an empty argument is no number of minutes'],
    [['--fast'], '--fast is no number of minutes'],
    [['5', '6'], '6 comes after the minutes were given'],
    [['--seed'], 'not nothing'],
    [['--seed', '-1'], 'not -1'],
    [['--seed', '4294967296'], '--seed takes a whole number from 0 to 2147483647'],
    [['--quick', '5'], '--quick has its own time'],
  ])('%j is refused in one sentence', (given, sentence) => {
    expect(() => parseSoakArguments(given)).toThrow(UsageError);
    expect(() => parseSoakArguments(given)).toThrow(sentence);
    expect(() => parseSoakArguments(given)).toThrow(/^[^\n]*: try: [^\n]*\.$/);
  });
});
