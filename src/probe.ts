import { checkCapabilities } from './checks/capabilities.ts';
import type { CarriedChecks, CarryTerms } from './checks/carried.ts';
import { type CheckContext, failed, measured } from './checks/context.ts';
import { checkDns } from './checks/dns.ts';
import { readHttp } from './checks/http.ts';
import { type Geoip, readGeo, readNet } from './checks/net.ts';
import { checkNip11, type DocumentRefusal, type Nip11Check } from './checks/nip11.ts';
import { checkRead } from './checks/read.ts';
import { inspectTls, readTls } from './checks/tls.ts';
import { checkWrite } from './checks/write.ts';
import type { CheckName, CheckResult, CheckResults } from './nostr/check-result.ts';
import type { Nip11Document } from './nostr/nip11.ts';
import { type Nip66Result, type StepResult, toNip66Result } from './nostr/nip66.ts';
import { Authenticator } from './relay/authentication.ts';
import type { connectRelay, RelayConnection } from './relay/connection.ts';
import type { fetchNip11 } from './relay/nip11-fetch.ts';
import { retryAfterOf } from './relay/relay-error.ts';
import { blame } from './relay/tor.ts';
import type { RelayAddress } from './relay/url.ts';

/** One check of one relay, good or bad. */
export interface Snapshot {
  readonly relay: RelayAddress;
  /** When the check began, unix seconds. */
  readonly generatedAt: number;
  readonly nip11: Nip11Document | null;
  /** Why there is no document, one stable word; null when there is one. */
  readonly nip11Reason: string | null;
  readonly nip66: Nip66Result;
  readonly checks: CheckResults;
  /** Which of the results later snapshots may repeat, and how long. */
  readonly carry: Carry;
  /** When the relay asked to be contacted again, where it did. */
  readonly retry?: RetryTerms;
}

type Carry = { readonly [Name in 'nip11' | 'capabilities']?: CarryTerms };

/** What the relay said with `Retry-After`; null where it did not. */
export interface RetryTerms {
  /** In seconds, when it refused the WebSocket. */
  readonly seconds: number | null;
  /** When it refused its NIP-11 document. */
  readonly nip11: DocumentRefusal | null;
}

export interface ProbeContext extends CheckContext {
  /** Checks that are wanted; `open` is made in any case. */
  readonly selected: ReadonlySet<CheckName>;
  /** How long a result of `capabilities` is repeated, in seconds. */
  readonly capabilitiesSeconds: number;
  readonly geoip: Geoip;
  /** Name servers to ask instead of the system's. */
  readonly dnsServers: readonly string[] | null;
  /** What earlier checks of this relay left to be repeated. A failure counts as nothing. */
  readonly carried: () => Promise<CarriedChecks>;
  readonly connect: typeof connectRelay;
  readonly fetchNip11: typeof fetchNip11;
}

/**
 * Checks one relay. Its document, DNS and one WebSocket are asked for at the same time, so a dead relay costs one
 * deadline; everything that is said to the relay is said over that one connection, and its certificate and headers
 * are those of that handshake. A full check makes two connections to the relay (WebSocket, document), one more where
 * the certificate is refused, to look at it. A check that fails does not cost the others.
 *
 * The connection is closed at the end.
 *
 * @throws the signal's reason when it aborts, and nothing else: a relay that fails is a snapshot too.
 */
export async function probeRelay(relay: RelayAddress, ctx: ProbeContext): Promise<Snapshot> {
  ctx.signal.throwIfAborted();
  const snapshot = await withBlame(await new Probe(relay, ctx).run(), ctx);
  ctx.signal.throwIfAborted();
  return snapshot;
}

/** A check during which Tor died says nothing of the relay, whatever was measured before. */
async function withBlame(snapshot: Snapshot, ctx: ProbeContext): Promise<Snapshot> {
  const { relay, nip66, checks } = snapshot;
  if (nip66.reason === null) return snapshot;
  const reason = await blame(relay.url, nip66.reason, ctx);
  if (reason === nip66.reason) return snapshot;
  const open = { success: false, durationMs: checks.open?.durationMs ?? 0, reason } as const;
  return {
    ...snapshot,
    nip66: toNip66Result({ ok: false, reason }),
    checks: { open, ...(checks.nip11?.success && { nip11: checks.nip11 }) },
  };
}

type Results = { -readonly [Name in CheckName]?: CheckResults[Name] };

class Probe {
  readonly #relay: RelayAddress;
  readonly #ctx: ProbeContext;
  readonly #results: Results = {};
  readonly #carry: { -readonly [Name in keyof Carry]: Carry[Name] } = {};
  #retryAfterSeconds: number | null = null;
  readonly #generatedAt: number;
  readonly #carried: Promise<CarriedChecks>;
  /** The address that was connected to; Tor's proxy is none. */
  #address: string | null = null;

  constructor(relay: RelayAddress, ctx: ProbeContext) {
    this.#relay = relay;
    this.#ctx = ctx;
    this.#generatedAt = Math.floor(ctx.now() / 1000);
    const isOfUse = ctx.selected.has('nip11') || ctx.selected.has('capabilities');
    this.#carried = isOfUse ? ctx.carried().catch(() => ({})) : Promise.resolve({});
  }

  async run(): Promise<Snapshot> {
    const document = this.#wants('nip11') ? this.#document() : null;
    const dns = this.#wants('dns') ? this.#dns() : null;
    const open = await this.#connection(document);
    const nip11 = await document;
    await dns;
    await this.#place();
    const isKept = nip11 !== null && (open || !nip11.isCarried); // who is gone says nothing any more
    if (isKept) this.#results.nip11 = nip11.result;
    if (isKept && nip11.terms) this.#carry.nip11 = nip11.terms;
    const { nip11: result } = this.#results;
    return {
      relay: this.#relay,
      generatedAt: this.#generatedAt,
      nip11: result?.success ? result.data.document : null,
      nip11Reason: result ? (result.success ? null : result.reason) : 'not_asked',
      nip66: this.#nip66(),
      checks: this.#results,
      carry: this.#carry,
      ...this.#retry(nip11),
    };
  }

  #retry(document: Nip11Check | null): { retry?: RetryTerms } {
    const retry = { seconds: this.#retryAfterSeconds, nip11: document?.retry ?? null };
    return retry.seconds === null && retry.nip11 === null ? {} : { retry };
  }

  #wants(name: CheckName): boolean {
    return this.#ctx.selected.has(name);
  }

  async #document(): Promise<Nip11Check> {
    const { nip11, nip11Retry } = await this.#carried;
    return checkNip11(this.#relay, this.#ctx, this.#ctx.fetchNip11, nip11, nip11Retry);
  }

  /** Names of Tor and its like are never looked up, and their addresses nobody knows. */
  get #isClearnet(): boolean {
    return this.#relay.network === 'clearnet';
  }

  async #dns(): Promise<void> {
    if (!this.#isClearnet) return;
    const { url } = this.#relay;
    const result = await measured(url, () => checkDns(url, this.#ctx, this.#ctx.dnsServers));
    const isLiteral = !result.success && result.reason === 'literal';
    if (!isLiteral) this.#results.dns = result;
  }

  /** Everything that needs the connection. @returns whether it opened. */
  async #connection(document: Promise<Nip11Check> | null): Promise<boolean> {
    const { url } = this.#relay;
    const started = performance.now();
    let connection: RelayConnection | undefined;
    const open = await measured(url, async () => {
      connection = await this.#ctx.connect(url, this.#ctx).catch((error: unknown) => {
        this.#retryAfterSeconds = retryAfterOf(error);
        throw error;
      });
      return {};
    });
    this.#results.open = open;
    if (!connection) {
      if (!open.success && open.reason === 'tls') await this.#refusedTls(started);
      return false;
    }
    try {
      await this.#handshake(connection);
      await this.#conversation(connection, document);
    } finally {
      connection.close();
    }
    return true;
  }

  /** Looks at a certificate that was refused, within what is left of the deadline. */
  async #refusedTls(started: number): Promise<void> {
    if (!this.#wants('tls') || !this.#isClearnet) return;
    const { url } = this.#relay;
    const left = started + this.#ctx.timeoutMs - performance.now();
    this.#results.tls = await measured(url, () => inspectTls(url, this.#ctx, Math.max(left, 0)));
  }

  async #handshake({ upgrade }: RelayConnection): Promise<void> {
    const { url } = this.#relay;
    if (!upgrade) return;
    const { headers, socket } = upgrade;
    if (this.#wants('http')) this.#results.http = await measured(url, () => readHttp(headers));
    if (!this.#isClearnet) return;
    this.#address = socket.remoteAddress ?? null;
    if (this.#wants('tls') && url.startsWith('wss:'))
      this.#results.tls = await measured(url, () => readTls(socket));
  }

  async #conversation(
    connection: RelayConnection,
    document: Promise<Nip11Check> | null,
  ): Promise<void> {
    const ctx = this.#ctx;
    const authenticator = new Authenticator(connection, ctx.secretKey);
    const limitation = document?.then(({ result }) =>
      result.success ? result.data.document.limitation : null,
    );
    if (this.#wants('read'))
      this.#results.read = await guarded(() => checkRead(connection, authenticator, ctx));
    if (this.#wants('write')) {
      const minPow = Promise.resolve(limitation).then((claims) => claims?.min_pow_difficulty ?? 0);
      this.#results.write = await guarded(() => checkWrite(connection, authenticator, ctx, minPow));
    }
    if (this.#wants('capabilities')) await this.#capabilities(connection, limitation);
  }

  async #capabilities(
    connection: RelayConnection,
    limitation: Promise<Nip11Document['limitation']> | undefined,
  ): Promise<void> {
    const { capabilities: carried } = await this.#carried;
    if (carried && carried.freshUntil > this.#generatedAt) {
      const { data, durationMs } = carried;
      this.#results.capabilities = { success: true, durationMs, data };
      return;
    }
    if (!connection.isOpen || this.#results.read?.success === false) return;
    const claimed = (await limitation)?.max_limit ?? null;
    const result = await measured(this.#relay.url, () =>
      checkCapabilities(connection, this.#ctx, claimed),
    );
    this.#results.capabilities = result;
    if (!result.success) return;
    const freshUntil = this.#generatedAt + this.#ctx.capabilitiesSeconds;
    this.#carry.capabilities = { freshUntil, etag: null, lastModified: null };
  }

  /** To whom the address belongs and where it is. Where none was connected to, the first one of DNS is taken. */
  async #place(): Promise<void> {
    const { dns } = this.#results;
    const named = dns?.success ? (dns.data.a[0] ?? dns.data.aaaa[0]) : undefined;
    const ip = this.#address ?? named;
    if (ip === undefined) return;
    const { url } = this.#relay;
    const { geoip } = this.#ctx;
    if (this.#wants('net')) this.#results.net = await measured(url, () => readNet(ip, geoip));
    if (this.#wants('geo') && geoip.city)
      this.#results.geo = await measured(url, () => readGeo(ip, geoip));
  }

  #nip66(): Nip66Result {
    const { open, read, write } = this.#results;
    return toNip66Result(stepOf(open) ?? NOT_REACHED, stepOf(read), stepOf(write));
  }
}

/** What a check throws is an abort, of which the whole probe tells, or a mistake of ours, which costs this one alone. */
async function guarded<Data>(check: () => Promise<CheckResult<Data>>): Promise<CheckResult<Data>> {
  try {
    return await check();
  } catch {
    return failed('internal', 0);
  }
}

const NOT_REACHED = { ok: false, reason: 'not_reached' } as const;

function stepOf(result: CheckResult<unknown> | undefined): StepResult | null {
  if (!result) return null;
  return result.success
    ? { ok: true, rtt: result.durationMs }
    : { ok: false, reason: result.reason };
}
