import { writeFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Maximum number of lines of output for each failed test. */
const LINES_OF_AN_ERROR = 15;

/**
 * Writes what a run of the tests came to into the file that SUMMARY_FILE names: each test that failed, or passed only
 * when it was tried again, with its reason, then the counts. `.ci/run` ends with it: of a long log the end is what is read.
 */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(
    modules: readonly TestModule[],
    unhandled: readonly { readonly message: string }[],
  ): void {
    const file = process.env.SUMMARY_FILE;
    if (!file) throw new Error('SUMMARY_FILE is not set: name the file for the summary');
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const failed = tests.filter((test) => test.result().state === 'failed');
    const again = tests.filter((test) => test.diagnostic()?.flaky);
    const count = (state: string) => tests.filter((test) => test.result().state === state).length;
    const broken = modules.filter((module) => module.errors().length > 0);
    writeFileSync(
      file,
      [
        ...failed.map((test) => described('failed', test)),
        ...again.map((test) => described('passed only when tried again', test)),
        ...broken.map((module) =>
          entry('could not be run', module.moduleId, messages(module.errors())),
        ),
        ...unhandled.map(({ message }) => entry('an error outside any test', '', message)),
        `${count('passed')} passed, ${failed.length} failed, ${count('skipped')} skipped, ${again.length} tried again`,
        '',
      ].join('\n'),
    );
  }
}

function described(what: string, test: TestCase): string {
  return entry(what, `${test.module.moduleId} > ${test.fullName}`, messages(test.result().errors));
}

function entry(what: string, where: string, text: string): string {
  const lines = text.split('\n').slice(0, LINES_OF_AN_ERROR);
  return `${what}: ${where}\n${lines.map((line) => `  ${line}`).join('\n')}\n`;
}

function messages(errors: readonly { readonly message: string }[] | undefined): string {
  return (errors ?? []).map(({ message }) => message).join('\n');
}
