/** A seeded mistake: one change at one place, and the tests that must fail with it. */
export interface Mutant {
  readonly name: string;
  /** A room or file of `src` without its ending (`sync`, `monitor/checks/tls`), or a file of the repository (`init.sql`). */
  readonly in: string;
  /** The tokens to be replaced; `$name` stands for any operand. They occur once in the room. */
  readonly find: string;
  readonly replace: string;
  /** As `project:file`. */
  readonly tests: readonly string[];
}

export declare const MUTANTS: readonly Mutant[];
