import pg from 'pg';
import type { DatabaseConfig } from './config.ts';
import { isTlsCode } from './relay/tls-codes.ts';

/**
 * A query failed for good. `code` is the SQLSTATE (PostgreSQL appendix A) or the system's error code;
 * `permanent` tells whether trying again later can help.
 */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
  readonly code: string;
  readonly permanent: boolean;

  constructor(message: string, code: string, permanent: boolean, cause: unknown) {
    super(message, { cause });
    this.code = code;
    this.permanent = permanent;
  }
}

/**
 * The server, or a pooler before it, refused a connection or ended it. It is no matter of the statement, whatever its
 * code says: poolers choose their codes freely, and a failover or a rotated password gives any of them for a while.
 */
export class ConnectionFailure extends Error {
  override readonly name = 'ConnectionFailure';

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** SQLSTATE classes that pass by themselves: connection, resources, operator intervention, system. */
const TRANSIENT_CLASSES = /^(08|53|57|58)/;
/** SQLSTATE codes that do. PgBouncer answers 08P01 after its server died. */
const TRANSIENT_STATES = new Set([
  '25006', // read-only transaction: a standby that is not promoted yet
  '25P03', // idle in transaction for too long
  '40001', // serialization failure
  '40P01', // deadlock
  '55P03', // lock not available
  'XX000', // internal error: how poolers report that they have no server
]);
/** Unique indexes that are violated by chance alone: the next try finds what was in the way. */
const RACES = new Set([
  'events_pkey', // two events of one second got the same key, and the next try draws another (new_event_key in init.sql)
  'sightings_relay_id_event_key_index', // two batches of one relay brought the same event at once
]);
const TRANSIENT_SYSTEM_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
const TRANSIENT_MESSAGES =
  /connection terminated|connection ended|timeout exceeded when trying to connect|timeout expired|query read timeout|client has encountered a connection error|server closed the connection/i;

/** Refusals of a connection that is not encrypted: of PostgreSQL (28000), PgBouncer, and managed servers. */
const WANTS_ENCRYPTION =
  /no encryption|ssl off|(ssl|tls)( connection)? (is )?required|requires? (an? )?(ssl|tls)|connection is insecure|sslmode=require/i;
const OFFERS_NO_TLS = /server does not support ssl/i;
/** Refusals of a login that no waiting mends: its password or address, its database, a privilege. */
const HOPELESS_STATES = new Set(['28P01', '28000', '3D000', '42501']);

/** The SQLSTATE, or the code of the system; empty where there is none. */
export function codeOf(error: unknown): string {
  if (error instanceof ConnectionFailure) return codeOf(error.cause);
  if (!(error instanceof Error && 'code' in error && typeof error.code === 'string')) return '';
  return error.code === '08P01' ? codeOfPooler(error.message) : error.code;
}

/** PgBouncer before 1.20 gives every error of its own the code 08P01, which else means that its server is gone. */
function codeOfPooler(message: string): string {
  if (/authentication failed|no such user/i.test(message)) return '28P01';
  return /no such database/i.test(message) ? '3D000' : '08P01';
}

/** What the server said, or the code of the system where that is all there is. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || codeOf(error) : String(error);
}

/** Whether the server ended the connection with this error, or refused to make it. */
export function isOfConnection(error: unknown): boolean {
  if (error instanceof ConnectionFailure) return true;
  return error instanceof pg.DatabaseError && /^(FATAL|PANIC)$/.test(error.severity ?? '');
}

/** Whether the same statement may succeed when it is sent again. */
export function isTransient(error: unknown): boolean {
  if (error instanceof DatabaseError) return !error.permanent;
  if (isOfConnection(error)) return true;
  const code = codeOf(error);
  if (TRANSIENT_CLASSES.test(code) || TRANSIENT_STATES.has(code)) return true;
  if (TRANSIENT_SYSTEM_CODES.has(code)) return true;
  if (code === '23505' && RACES.has(constraintOf(error) ?? '')) return true;
  return code === '' && error instanceof Error && TRANSIENT_MESSAGES.test(error.message);
}

/** Whether no waiting mends it when a program starts: what it was told of the database is wrong. */
export function isHopeless(error: unknown): boolean {
  if (error instanceof DatabaseError) return error.permanent;
  if (!isTransient(error)) return true;
  if (HOPELESS_STATES.has(codeOf(error))) return true;
  return isOfConnection(error) && encryptionProblem(error) !== null;
}

/** Whether a value in the statement, not the server, is to blame: data exceptions, constraints, program limits. */
export function isDataError(error: unknown): boolean {
  return /^(22|23|54)/.test(codeOf(error)) && !isTransient(error);
}

function constraintOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.constraint : undefined;
}

/** What is wrong between our setting and the server's about encryption, and what to do; null where that is not it. */
function encryptionProblem(error: unknown): string | null {
  const said = messageOf(error);
  if (WANTS_ENCRYPTION.test(said)) {
    return 'it refuses the connection without encryption. Set POSTGRES_SSL_MODE to require, or to verify-full with POSTGRES_SSL_CA';
  }
  if (OFFERS_NO_TLS.test(said)) {
    return 'it offers no encryption, which POSTGRES_SSL_MODE asks for. Turn TLS on there, or set POSTGRES_SSL_MODE to disable where the network is your own';
  }
  if (!isTlsCode(codeOf(error))) return null;
  return 'its TLS certificate is not accepted. POSTGRES_SSL_CA must name the certificate of its authority, and with verify-full POSTGRES_HOST must be a name in it';
}

/** One sentence that says what failed, where, and what to do about it. Holds no secret. */
export function explain(error: unknown, config: DatabaseConfig): string {
  const where = `${config.user}@${config.host}:${config.port}/${config.database}`;
  const said = messageOf(error);
  const encryption = encryptionProblem(error);
  if (encryption !== null) return `PostgreSQL at ${where}: ${encryption} (${said})`;
  const code = codeOf(error);
  if (isOfConnection(error) && !HOPELESS_STATES.has(code))
    return `The database ${where} failed: ${said}`;
  switch (code) {
    case '28P01':
    case '28000':
      return /pg_hba\.conf/.test(said)
        ? `PostgreSQL allows no connection as ${where} from this address: add one to its pg_hba.conf (${said})`
        : `PostgreSQL refuses the login ${where}: check POSTGRES_USER and POSTGRES_PASSWORD (${said})`;
    case '3D000':
      return `There is no database at ${where}: create it, or check POSTGRES_DB (${said})`;
    case '42P01':
    case '42883':
    case '42703':
      return `The archive at ${where} lacks something that init.sql makes: load init.sql (${said})`;
    case '42501':
      return `The login ${where} lacks a privilege: ${said}`;
    default:
      return `The database ${where} failed: ${said}`;
  }
}
