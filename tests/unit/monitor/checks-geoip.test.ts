import { copyFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { geohash } from '../../../src/monitor/checks/geohash.ts';
import { GeoipDatabase } from '../../../src/monitor/checks/geoip.ts';
import { readGeo, readNet } from '../../../src/monitor/checks/net.ts';
import { type GeoipNetworks, writeGeoipFile } from '../../fixtures/geoip-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'bigbrotr-geoip-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = (name: string) => join(folder, name);

const CITIES: GeoipNetworks = {
  '93.184.216.0/24': {
    country: { iso_code: 'CH', names: { en: 'Switzerland' } },
    city: { names: { de: 'Zürich', en: 'Zurich' } },
    location: { latitude: 47.3667, longitude: 8.55 },
  },
  '8.8.0.0/16': { country: { iso_code: 'US' } },
  '9.9.9.9/32': {
    country: 'nowhere',
    city: { names: 'none' },
    location: { latitude: 1234.5, longitude: 'east' },
  },
};

let city: GeoipDatabase | null;
let asn: GeoipDatabase | null;

beforeAll(async () => {
  writeGeoipFile(path('city.mmdb'), 'GeoLite2-City', CITIES);
  writeGeoipFile(path('asn.mmdb'), 'GeoLite2-ASN', {
    '93.184.0.0/16': {
      autonomous_system_number: 15133,
      autonomous_system_organization: 'Edge\u0000cast',
    },
  });
  city = await GeoipDatabase.open('GEOIP_CITY_PATH', path('city.mmdb'));
  asn = await GeoipDatabase.open('GEOIP_ASN_PATH', path('asn.mmdb'));
});

const geoOf = (ip: string) => readGeo(ip, { city, asn });

describe('readGeo and readNet', () => {
  test('return country, city and coordinates', () => {
    expect(geoOf('93.184.216.34')).toEqual({
      ...{ country: 'CH', city: 'Zurich', latitude: 47.3667, longitude: 8.55 },
      geohash: expect.stringMatching(/^u0qj.....$/),
    });
  });

  test('return a country without a city', () => {
    expect(geoOf('8.8.8.8')).toEqual({
      ...{ country: 'US', city: null, latitude: null, longitude: null, geohash: null },
    });
  });

  test.each(['1.1.1.1', '2606:2800:220:1::5', '9.9.9.9', 'no address'])(
    'that is not known, %s, is a failure of its own',
    (ip) => {
      expect(() => geoOf(ip)).toThrow(expect.objectContaining({ reason: 'unknown_address' }));
    },
  );

  test('return the autonomous system, and without a database the address only', () => {
    expect(readNet('93.184.216.34', { city, asn })).toEqual({
      ...{ ip: '93.184.216.34', asn: 15133, organisation: 'Edge\ufffdcast' },
    });
    const unknown = { ip: '1.1.1.1', asn: null, organisation: null };
    expect(readNet('1.1.1.1', { city, asn })).toEqual(unknown);
    expect(readNet('1.1.1.1', { city: null, asn: null })).toEqual(unknown);
    expect(() => readGeo('1.1.1.1', { city: null, asn: null })).toThrow('no_database');
  });
});

describe('GeoipDatabase', () => {
  test('is null without a path and for an empty file', async () => {
    writeFileSync(path('empty.mmdb'), '');
    expect(await GeoipDatabase.open('GEOIP_CITY_PATH', null)).toBeNull();
    expect(await GeoipDatabase.open('GEOIP_CITY_PATH', path('empty.mmdb'))).toBeNull();
  });

  test.each([
    ['is missing', 'missing.mmdb', null],
    ['is something else', 'text.mmdb', 'country,city\n'],
  ])('refuses a file that %s in one sentence', async (_, name, text) => {
    if (text !== null) writeFileSync(path(name), text);
    await expect(GeoipDatabase.open('GEOIP_CITY_PATH', path(name))).rejects.toThrow(
      /^GEOIP_CITY_PATH must name a readable file in the MaxMind format: /,
    );
  });

  test('reads a replaced file again, and ignores a broken one', async () => {
    copyFileSync(path('city.mmdb'), path('weekly.mmdb'));
    const database = await GeoipDatabase.open('GEOIP_CITY_PATH', path('weekly.mmdb'));
    const country = () => readGeo('8.8.8.8', { city: database, asn: null }).country;
    writeFileSync(path('broken.mmdb'), 'half of a file');
    renameSync(path('broken.mmdb'), path('weekly.mmdb'));
    await database?.refresh();
    expect(country()).toBe('US');
    writeGeoipFile(path('next.mmdb'), 'GeoLite2-City', {
      '8.0.0.0/8': { country: { iso_code: 'CA' } },
    });
    renameSync(path('next.mmdb'), path('weekly.mmdb'));
    await database?.refresh();
    expect(country()).toBe('CA');
  });
});

describe('geohash', () => {
  // The first two are the examples of its inventor and of Wikipedia.
  test.each([
    [57.64911, 10.40744, 'u4pruydqqvj'],
    [42.605, -5.603, 'ezs42'],
    [0, 0, 's00000000'],
    [90, 180, 'zzzzzzzzz'],
    [-90, -180, '000000000'],
  ])('of %d, %d is %s', (latitude, longitude, hash) => {
    expect(geohash(latitude, longitude, hash.length)).toBe(hash);
  });
});
