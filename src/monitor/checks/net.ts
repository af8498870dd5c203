import type { GeoData, NetData } from '../../nostr/check-result.ts';
import { plainText } from '../../nostr/message.ts';
import { CheckError } from './context.ts';
import { geohash } from './geohash.ts';

/** Databases in the MaxMind format; null where none is configured. */
export interface Geoip {
  readonly city: Lookup | null;
  readonly asn: Lookup | null;
}

interface Lookup {
  get(ip: string): unknown;
}

/** The network (autonomous system) of an address. */
export function readNet(ip: string, { asn }: Geoip): NetData {
  const record = asn?.get(ip);
  return {
    ip,
    asn: wholeOf(memberOf(record, 'autonomous_system_number')),
    organisation: textOf(memberOf(record, 'autonomous_system_organization')),
  };
}

/** The location of an address. @throws CheckError `no_database` or `unknown_address` */
export function readGeo(ip: string, { city }: Geoip): GeoData {
  if (!city) throw new CheckError('no_database');
  const record = city.get(ip);
  const location = memberOf(record, 'location');
  const latitude = degreesOf(memberOf(location, 'latitude'), 90);
  const longitude = degreesOf(memberOf(location, 'longitude'), 180);
  const data = {
    country: textOf(memberOf(memberOf(record, 'country'), 'iso_code')),
    city: textOf(memberOf(memberOf(memberOf(record, 'city'), 'names'), 'en')),
    latitude,
    longitude,
    geohash: latitude === null || longitude === null ? null : geohash(latitude, longitude),
  };
  if (Object.values(data).every((value) => value === null)) throw new CheckError('unknown_address');
  return data;
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? plainText(value) : null;
}

function wholeOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function degreesOf(value: unknown, most: number): number | null {
  const degrees = numberOf(value);
  return degrees !== null && Math.abs(degrees) <= most ? degrees : null;
}
