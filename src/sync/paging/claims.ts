import type { Window } from '../../nostr/window.ts';
import { joined } from '../windows.ts';

/** Coverage by pages is taken back by any contradiction; coverage by a NIP-77 list only if one of its probes may be false. */
export type ClaimKind = 'paging' | 'nip77';

/** The coverage that a visit has proven, by filter, so that it can be taken back when the relay contradicts it. */
export class Claims {
  readonly #windows = new Map<number, { readonly kind: ClaimKind; readonly window: Window }[]>();

  note(filterId: number, kind: ClaimKind, windows: readonly Window[]): void {
    const noted = this.#windows.get(filterId) ?? [];
    noted.push(...windows.map((window) => ({ kind, window })));
    this.#windows.set(filterId, noted);
  }

  /** Windows of one filter with this kind of proof, merged where they touch. */
  of(filterId: number, kind: ClaimKind): Window[] {
    const noted = this.#windows.get(filterId) ?? [];
    return joined(noted.filter((claim) => claim.kind === kind).map(({ window }) => window));
  }

  get filterIds(): number[] {
    return [...this.#windows.keys()];
  }
}
