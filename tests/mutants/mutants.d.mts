/** One change to one file, and the tests that are meant to notice it. */
export interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** As `project:file`. */
  readonly tests: readonly string[];
}

export declare const MUTANTS: readonly Mutant[];
