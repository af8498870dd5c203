import { createHash } from 'node:crypto';
import type { RelayUrl } from '../network/url.ts';
import type { Service } from '../runtime/service.ts';

/**
 * The claim on the sources of the finder other than the archive: lists of relays, and relays with reports of other
 * monitors. Of finders with the same sources one reads them: it keeps the claim for as long as it runs. Another one takes
 * over when the lease has ended.
 */
export class SourceClaim {
  readonly #claims: Service['claims'];
  readonly #key: number;

  /** @param onLost called when another finder reads the sources now */
  constructor(urls: readonly RelayUrl[], { claims }: Pick<Service, 'claims'>, onLost: () => void) {
    this.#claims = claims;
    this.#key = keyOf(urls);
    claims.onLost('sources', onLost);
  }

  /** Whether this process reads the sources, as far as it knows. */
  get isHeld(): boolean {
    return this.#claims.holds('sources', this.#key);
  }

  /** Takes the claim unless another process holds it. @returns whether this process reads the sources @throws DatabaseError */
  async take(): Promise<boolean> {
    const tokens = await this.#claims.claim('sources', null, [{ key: this.#key, seenAt: null }]);
    return tokens.has(this.#key);
  }
}

/** A hash of 31 bits, the same whatever order the URLs stand in. */
function keyOf(urls: readonly RelayUrl[]): number {
  const text = [...urls].sort().join('\n');
  return createHash('sha256').update(text).digest().readUInt32BE() >>> 1;
}
