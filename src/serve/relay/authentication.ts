import { randomBytes } from 'node:crypto';
import { type NostrEvent, parseEvent } from '../../nostr/event.ts';
import { unixNow } from '../../nostr/unix-time.ts';
import type { RelayContext } from './context.ts';
import type { Viewer } from './visibility.ts';

const AUTHENTICATION = 22_242;
/** The time of an AUTH event may differ from ours by this, in seconds (NIP-42). */
const MAX_AGE = 600;
/** Keys for which one connection may authenticate. */
const MAX_KEYS = 20;

/** The authentication of one client (NIP-42), where it is on. */
export class Authentication {
  readonly #context: Pick<RelayContext, 'authUrl' | 'readers' | 'verifier'>;
  readonly #send: (message: readonly unknown[]) => void;
  readonly #challenge = randomBytes(16).toString('hex');
  readonly #keys = new Set<string>();

  constructor(
    context: Pick<RelayContext, 'authUrl' | 'readers' | 'verifier'>,
    send: (message: readonly unknown[]) => void,
  ) {
    this.#context = context;
    this.#send = send;
  }

  /** Whether the client has shown a key that has larger limits. */
  get isReader(): boolean {
    return this.#keys.size > 0 && [...this.#keys].some((key) => this.#context.readers.has(key));
  }

  /** What the client may see; follows later authentications. */
  viewer(): Viewer {
    return { hidesProtected: this.#context.authUrl !== null, keys: this.#keys };
  }

  /** Sends the challenge, where clients can authenticate. */
  challenge(): void {
    if (this.#context.authUrl !== null) this.#send(['AUTH', this.#challenge]);
  }

  /** Takes the event of an AUTH message, and answers it. */
  accept(value: unknown): void {
    const parsed = parseEvent(value);
    const id = parsed.ok ? parsed.event.id : idIn(value);
    const refusal = parsed.ok ? this.#refusalOf(parsed.event) : 'invalid: this is no event';
    const isValid =
      refusal === null && parsed.ok && this.#context.verifier.verify(parsed.event) !== null;
    if (isValid) this.#keys.add(parsed.event.pubkey);
    const text = isValid ? '' : (refusal ?? 'invalid: its signature is wrong');
    if (id === null) this.#send(['NOTICE', text]);
    else this.#send(['OK', id, isValid, text]);
  }

  #refusalOf(event: NostrEvent): string | null {
    const { authUrl } = this.#context;
    if (authUrl === null) return 'unsupported: clients cannot authenticate here';
    const tag = (name: string) => event.tags.find((each) => each[0] === name)?.[1];
    if (event.kind !== AUTHENTICATION) return `invalid: its kind is not ${AUTHENTICATION}`;
    if (Math.abs(event.created_at - unixNow()) > MAX_AGE) return 'invalid: its time is too far off';
    if (tag('challenge') !== this.#challenge) return 'invalid: its challenge is not ours';
    if (hostOf(tag('relay')) !== hostOf(authUrl)) return 'invalid: it is for another relay';
    if (this.#keys.size >= MAX_KEYS && !this.#keys.has(event.pubkey))
      return `restricted: at most ${MAX_KEYS} keys for one connection`;
    return null;
  }
}

function hostOf(url: string | undefined): string | null {
  return URL.canParse(url ?? '') ? new URL(url ?? '').host.toLowerCase() : null;
}

function idIn(value: unknown): string | null {
  if (typeof value !== 'object' || value === null || !('id' in value)) return null;
  return typeof value.id === 'string' && /^[0-9a-f]{64}$/.test(value.id) ? value.id : null;
}
