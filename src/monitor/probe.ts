import type { Relay } from '../database/bigbrotr.ts';
import { attributeFailure } from '../network/attribute-failure.ts';
import { retryAfterOf } from '../network/relay-error.ts';
import type { RelayAddress } from '../network/url.ts';
import type { CheckName, CheckResult, CheckResults } from '../nostr/check-result.ts';
import type { Nip11Document } from '../nostr/nip11.ts';
import { type Nip66Result, type StepResult, toNip66Result } from '../nostr/nip66.ts';
import type { connectRelay, RelayConnection } from '../relay-client/connection.ts';
import { RenewableSession } from '../relay-client/renewable-session.ts';
import { checkCapabilities } from './checks/capabilities.ts';
import type { CarriedChecks, CarryTerms } from './checks/carried.ts';
import { type CheckContext, failed, measured } from './checks/context.ts';
import { checkDns } from './checks/dns.ts';
import { readHttp } from './checks/http.ts';
import { type Geoip, readGeo, readNet } from './checks/net.ts';
import { checkNip11, type DocumentRefusal, type Nip11Check } from './checks/nip11.ts';
import type { fetchNip11 } from './checks/nip11-fetch.ts';
import { checkRead } from './checks/read.ts';
import { inspectTls, readTls } from './checks/tls.ts';
import { checkWrite } from './checks/write.ts';

/** A relay that is checked, with its key and the token of its claim where it has them. */
export type ProbedRelay = RelayAddress & Partial<Pick<Relay, 'relayId' | 'token'>>;

/** The results of all checks of one relay at one time. */
export interface Snapshot {
  readonly relay: ProbedRelay;
  /** When the checks began, Unix seconds. */
  readonly generatedAt: number;
  readonly nip11: Nip11Document | null;
  /** Why there is no document, as one stable word; null when there is one. */
  readonly nip11Reason: string | null;
  readonly nip66: Nip66Result;
  readonly checks: CheckResults;
  /** Which results later snapshots may reuse, and for how long. */
  readonly carry: Carry;
  /** When the relay asked to be contacted again, if it did. */
  readonly retry?: RetryTerms;
}

type Carry = { readonly [Name in 'nip11' | 'capabilities']?: CarryTerms };

/** The `Retry-After` headers of the relay; null where it sent none. */
export interface RetryTerms {
  /** Of a refused WebSocket, in seconds. */
  readonly seconds: number | null;
  /** Of a refused NIP-11 document. */
  readonly nip11: DocumentRefusal | null;
}

export interface ProbeContext extends CheckContext {
  /** The checks to run; `open` always runs. */
  readonly selected: ReadonlySet<CheckName>;
  /** How long a result of `capabilities` is reused, in seconds. */
  readonly capabilitiesSeconds: number;
  readonly geoip: Geoip;
  /** Name servers used instead of the system's. */
  readonly dnsServers: readonly string[] | null;
  /** Reusable results of earlier checks of this relay. When it rejects, everything is measured. */
  readonly carried: () => Promise<CarriedChecks>;
  readonly connect: typeof connectRelay;
  readonly fetchNip11: typeof fetchNip11;
}

/**
 * Runs the checks of one relay. Document, DNS and WebSocket are requested in parallel, so a dead relay costs one deadline.
 * All other checks use that WebSocket; certificate and headers are those of its handshake. A full check makes two
 * connections to the relay (WebSocket, document), one more to inspect a refused certificate, and at most two more if the
 * answer to the read check is lost. A failed check does not affect the others. The connection is closed at the end.
 *
 * @throws the signal's reason when it aborts, and nothing else: a failure of the relay is a snapshot too
 */
export async function probeRelay(relay: ProbedRelay, ctx: ProbeContext): Promise<Snapshot> {
  ctx.signal.throwIfAborted();
  const snapshot = await withAttributedFailure(await new Probe(relay, ctx).run(), ctx);
  ctx.signal.throwIfAborted();
  return snapshot;
}

/** If Tor failed during the checks, they say nothing about the relay: only `proxy_down` and the document are kept. */
async function withAttributedFailure(snapshot: Snapshot, ctx: ProbeContext): Promise<Snapshot> {
  const { relay, nip66, checks } = snapshot;
  const failure = nip66.reason ?? ownFailureOf(checks.nip11);
  if (failure === null) return snapshot;
  const reason = await attributeFailure(relay.url, failure, ctx);
  if (reason === nip66.reason) return snapshot;
  const open = { success: false, durationMs: checks.open?.durationMs ?? 0, reason } as const;
  return {
    ...snapshot,
    nip66: toNip66Result({ ok: false, reason }),
    checks: { open, ...(checks.nip11?.success && { nip11: checks.nip11 }) },
  };
}

/** Whether our network failed while the document was fetched: the rest of the check may have suffered too. */
function ownFailureOf(nip11: CheckResults['nip11']): 'network_down' | null {
  return nip11?.success === false && nip11.reason === 'network_down' ? 'network_down' : null;
}

type Results = { -readonly [Name in CheckName]?: CheckResults[Name] };

class Probe {
  readonly #relay: ProbedRelay;
  readonly #ctx: ProbeContext;
  readonly #results: Results = {};
  readonly #carry: { -readonly [Name in keyof Carry]: Carry[Name] } = {};
  #retryAfterSeconds: number | null = null;
  readonly #generatedAt: number;
  readonly #carried: Promise<CarriedChecks>;
  /** The address of the WebSocket; null behind Tor. */
  #address: string | null = null;

  constructor(relay: ProbedRelay, ctx: ProbeContext) {
    this.#relay = relay;
    this.#ctx = ctx;
    this.#generatedAt = ctx.now();
    const mayReuse = ctx.selected.has('nip11') || ctx.selected.has('capabilities');
    this.#carried = mayReuse ? ctx.carried().catch(() => ({})) : Promise.resolve({});
  }

  async run(): Promise<Snapshot> {
    const document = this.#wants('nip11') ? this.#document() : null;
    const dns = this.#wants('dns') ? this.#dns() : null;
    const open = await this.#connection(document);
    const nip11 = await document;
    await dns;
    await this.#locate();
    const isKept = nip11 !== null && (open || !nip11.isCarried); // an unreachable relay has no document, however fresh
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

  /** Other networks: their names are never looked up in DNS, and their addresses are unknown. */
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

  /** Opens the WebSocket and runs all checks that need it. @returns whether it opened */
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
      if (!open.success && open.reason === 'tls') await this.#inspectRefusedTls(started);
      return false;
    }
    const ctx = this.#ctx;
    const session = new RenewableSession(connection, ctx.secretKey, (timeoutMs) =>
      ctx.connect(url, { ...ctx, timeoutMs }),
    );
    // At once, and not when the archive has answered: another monitor may check the relay from now on.
    const onAbort = () => session.connection.close();
    ctx.signal.addEventListener('abort', onAbort, { once: true });
    try {
      await this.#handshake(connection);
      await this.#conversation(session, document);
    } finally {
      ctx.signal.removeEventListener('abort', onAbort);
      session.connection.close();
    }
    return true;
  }

  /** Reads a refused certificate, within the rest of the deadline. */
  async #inspectRefusedTls(started: number): Promise<void> {
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
    session: RenewableSession,
    document: Promise<Nip11Check> | null,
  ): Promise<void> {
    const ctx = this.#ctx;
    const limitation = document?.then(({ result }) =>
      result.success ? result.data.document.limitation : null,
    );
    if (this.#wants('read')) this.#results.read = await guarded(() => checkRead(session, ctx));
    const { connection, authenticator } = session; // the read check may have replaced them
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

  /** Looks up network and location of the relay's address; without a connection, of the first address in DNS. */
  async #locate(): Promise<void> {
    const { dns } = this.#results;
    const resolved = dns?.success ? (dns.data.a[0] ?? dns.data.aaaa[0]) : undefined;
    const ip = this.#address ?? resolved;
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

/** A check throws on abort, which `probeRelay` reports, or because of a bug, which must not affect the other checks. */
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
