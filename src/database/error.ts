import pg from 'pg';
import type { DatabaseConfig } from '../config/load.ts';
import { isTlsCode } from '../network/tls-codes.ts';

/**
 * A query that failed after all retries. `code` is the SQLSTATE (PostgreSQL appendix A) or the system's error code;
 * `permanent` is true if a later retry cannot help.
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
 * The server, or a pooler before it, refused or ended a connection. The statement is not the cause, whatever the code:
 * poolers choose their codes freely, and a failover or a rotated password causes any of them for a while.
 */
export class ConnectionFailure extends Error {
  override readonly name = 'ConnectionFailure';

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** Transient SQLSTATE classes: connection, resources, operator intervention, system. */
const TRANSIENT_CLASSES = /^(08|53|57|58)/;
/** Further transient SQLSTATE codes. PgBouncer answers 08P01 after its server died. */
const TRANSIENT_STATES = new Set([
  '25006', // read-only transaction: a standby that is not promoted yet
  '25P03', // idle in transaction for too long
  '40001', // serialization failure
  '40P01', // deadlock
  '55P03', // lock not available
  'XX000', // internal error: how poolers report that they have no server, and Citus that a worker died
]);
/** Unique indexes that are violated only by races: a retry finds the conflicting row. */
const RACES = new Set([
  'events_pkey', // two events of one second got the same key, and the next try draws another (src/database/sightings.ts)
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

/** Refusals of an unencrypted connection: of PostgreSQL (28000), PgBouncer, and managed servers. */
const WANTS_ENCRYPTION =
  /no encryption|ssl off|(ssl|tls)( connection)? (is )?required|requires? (an? )?(ssl|tls)|connection is insecure|sslmode=require/i;
const OFFERS_NO_TLS = /server does not support ssl/i;
/** Permanent refusals of a login: its password or address, its database, a privilege. */
const HOPELESS_STATES = new Set(['28P01', '28000', '3D000', '42501']);

/** The SQLSTATE, or the error code of the system; empty if there is none. */
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

/** The message of the server, or the error code of the system if there is no message. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || codeOf(error) : String(error);
}

/** Whether the server ended the connection with this error, or refused to make it. */
export function isOfConnection(error: unknown): boolean {
  if (error instanceof ConnectionFailure) return true;
  return error instanceof pg.DatabaseError && /^(FATAL|PANIC)$/.test(error.severity ?? '');
}

/** Whether the connection is gone: the server ended it, or nothing says who did. */
export function isConnectionGone(error: unknown): boolean {
  if (isOfConnection(error)) return true;
  const code = codeOf(error);
  if (TRANSIENT_SYSTEM_CODES.has(code)) return true;
  return code === '' && error instanceof Error && TRANSIENT_MESSAGES.test(error.message);
}

/** Whether the same statement may succeed when it is sent again. */
export function isTransient(error: unknown): boolean {
  if (error instanceof DatabaseError) return !error.permanent;
  if (isConnectionGone(error)) return true;
  const code = codeOf(error);
  if (TRANSIENT_CLASSES.test(code) || TRANSIENT_STATES.has(code)) return true;
  return code === '23505' && RACES.has(constraintOf(error) ?? '');
}

/** Whether the error is permanent when a program starts: its configuration of the database is wrong. */
export function isHopeless(error: unknown): boolean {
  if (error instanceof DatabaseError) return error.permanent;
  if (!isTransient(error)) return true;
  if (HOPELESS_STATES.has(codeOf(error))) return true;
  return isOfConnection(error) && encryptionProblem(error) !== null;
}

/** Whether a value in the statement caused the error: data exceptions, constraints, program limits. */
export function isDataError(error: unknown): boolean {
  return /^(22|23|54)/.test(codeOf(error)) && !isTransient(error);
}

/** Number of a shard, which Citus adds to the names of its relations and constraints. */
const SHARD = /_\d+$/;

/** The name of a violated constraint. Citus passes on the message of a worker, and not its other fields. */
function constraintOf(error: unknown): string | undefined {
  if (!(error instanceof pg.DatabaseError)) return undefined;
  const name = error.constraint ?? /"([^"]+)"/.exec(error.message)?.[1];
  return name?.replace(SHARD, '');
}

/** A mismatch between our TLS setting and the server's, and what to do; null if that is not the cause. */
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

/** One sentence: what failed, where, and what to do. Contains no secret. */
export function explain(error: unknown, config: DatabaseConfig): string {
  const where = `${config.user}@${config.host}:${config.port}/${config.database}`;
  const said = messageOf(error);
  const encryption = encryptionProblem(error);
  if (encryption !== null) return `PostgreSQL at ${where}: ${encryption} (${said})`;
  const code = codeOf(error);
  if (code === '53100')
    return `The disk of PostgreSQL at ${config.host}:${config.port} is full: free space on it; nothing is lost, and archiving goes on by itself then (${said})`;
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
