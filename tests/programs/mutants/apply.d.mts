import type { Mutant } from './mutants.mjs';

/** The places below `root` that a mutant fits: the file, and its text with the mistake in it. */
export declare function placesOf(
  root: string,
  mutant: Pick<Mutant, 'in' | 'find' | 'replace'>,
): { readonly file: string; readonly text: string }[];
