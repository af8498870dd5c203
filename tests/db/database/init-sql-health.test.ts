import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import { check, onEachServer } from '../../fixtures/init-sql-test.ts';

onEachServer((test) => {
  test('every field of NIP-11 and NIP-66 arrives in its column', async ({
    db,
    value,
    insertMetadata,
  }) => {
    const columns = await db.query<{ table: string; name: string; type: string }>(
      `select table_name as table, column_name as name, data_type as type from information_schema.columns
       where table_schema = 'public' and table_name in ('nip11', 'nip66') and column_name <> 'id'`,
    );
    const document = (table: string) =>
      Object.fromEntries(
        columns
          .filter((column) => column.table === table)
          .map(({ name, type }, index) => {
            if (type === 'jsonb') return [name, { [name]: [index, { deep: 'ü' }] }];
            if (type === 'boolean') return [name, name !== 'writable'];
            return [name, type === 'integer' ? 1000 + index : `value of ${name}`];
          }),
      );
    const [nip11, nip66] = [document('nip11'), document('nip66')];
    expect(Object.keys(nip11)).toHaveLength(13);
    expect(Object.keys(nip66)).toHaveLength(7);
    expect(await insertMetadata('wss://one.example/', 1000, nip11, nip66)).toBe(true);
    const [latest] = await db.query('select * from relay_metadata_latest');
    expect(latest).toMatchObject({ relay_url: 'wss://one.example/', ...nip11, ...nip66 });
    const text = await value('select $1::jsonb::text', [JSON.stringify(nip11)]);
    expect(latest?.nip11_id).toEqual(createHash('sha256').update(String(text)).digest());
  });

  test('equal documents are kept once, equal snapshots too', async ({
    db,
    value,
    insertMetadata,
  }) => {
    const nip11 = { name: 'Same', limitation: { max_limit: 500, auth_required: false } };
    const reordered = { limitation: { auth_required: false, max_limit: 500 }, name: 'Same' };
    expect(await insertMetadata('wss://one.example/', 1000, nip11, check())).toBe(true);
    expect(await insertMetadata('wss://one.example/', 1000, nip11, check())).toBe(false);
    expect(await insertMetadata('wss://one.example/', 2000, reordered, check())).toBe(true);
    expect(await insertMetadata('wss://two.example/', 2000, nip11, check())).toBe(true);
    expect(
      await insertMetadata('wss://two.example/', 3000, { name: 'Other' }, check({ rtt_open: 11 })),
    ).toBe(true);
    expect(await insertMetadata('wss://three.example/', 3000, null, null)).toBe(true);
    expect(await value('select count(*) from nip11')).toBe('2');
    expect(await value('select count(*) from nip66')).toBe('2');
    const snapshots = await db.query(
      'select relay_url, generated_at, nip11_id is null as none from relay_metadata order by 1, 2',
    );
    expect(snapshots).toEqual([
      { relay_url: 'wss://one.example/', generated_at: '1000', none: false },
      { relay_url: 'wss://one.example/', generated_at: '2000', none: false },
      { relay_url: 'wss://three.example/', generated_at: '3000', none: true },
      { relay_url: 'wss://two.example/', generated_at: '2000', none: false },
      { relay_url: 'wss://two.example/', generated_at: '3000', none: false },
    ]);
  });

  test('a document that does not fit is an error, and nothing of it is stored', async ({
    value,
    insertMetadata,
  }) => {
    const wrong = check({ rtt_open: 'soon' });
    await expect(
      insertMetadata('wss://one.example/', 1000, { name: 'One' }, wrong),
    ).rejects.toThrow('invalid input syntax for type integer');
    await expect(insertMetadata('wss://one.example/', 1000, null, {})).rejects.toThrow('openable');
    expect(await value('select count(*) from relays')).toBe('0');
    expect(await value('select count(*) from nip11')).toBe('0');
  });

  test('relay_metadata_latest and readable_relays use the latest snapshot, fastest first', async ({
    db,
    insertRelay,
    insertMetadata,
  }) => {
    await insertRelay('wss://never-checked.example/');
    await insertMetadata('wss://slow.example/', 1000, null, check({ rtt_read: 300 }));
    await insertMetadata('wss://fast.example/', 1000, { name: 'Old' }, check({ readable: false }));
    await insertMetadata('wss://fast.example/', 2000, { name: 'New' }, check({ rtt_read: 5 }));
    await insertMetadata('wss://gone.example/', 1000, null, check({ rtt_read: 1 }));
    await insertMetadata('wss://gone.example/', 3000, null, {
      ...{ openable: false, readable: false, writable: false, reason: 'timeout' },
    });
    expect(
      await db.query(
        'select relay_url, generated_at, name, reason from relay_metadata_latest order by 1',
      ),
    ).toEqual([
      { relay_url: 'wss://fast.example/', generated_at: '2000', name: 'New', reason: null },
      { relay_url: 'wss://gone.example/', generated_at: '3000', name: null, reason: 'timeout' },
      { relay_url: 'wss://slow.example/', generated_at: '1000', name: null, reason: null },
    ]);
    const readable = await db.query('select relay_url, rtt_read from readable_relays');
    expect(readable).toEqual([
      { relay_url: 'wss://fast.example/', rtt_read: 5 },
      { relay_url: 'wss://slow.example/', rtt_read: 300 },
    ]);
  });

  test('orphans are deleted, and nothing else', async ({
    db,
    value,
    insertEvent,
    insertMetadata,
  }) => {
    const { id: kept } = await insertEvent();
    const { id: orphan } = await insertEvent();
    await db.query(
      'delete from sightings s using events e where e.event_key = s.event_key and e.created_day = s.created_day and e.id = $1',
      [orphan],
    );
    expect(await value('select delete_orphan_events()')).toBe('1');
    expect(await value('select delete_orphan_events()')).toBe('0');
    expect(await db.query('select id from events')).toEqual([{ id: kept }]);

    await insertMetadata('wss://one.example/', 1000, { name: 'Old' }, check());
    await insertMetadata('wss://one.example/', 2000, { name: 'New' }, check({ rtt_open: 11 }));
    await db.query('delete from snapshots where generated_at = 1000');
    expect(await value('select delete_orphan_nip11()')).toBe('1');
    expect(await value('select delete_orphan_nip66()')).toBe('1');
    expect(await db.query('select name, rtt_open from nip11, nip66')).toEqual([
      { name: 'New', rtt_open: 11 },
    ]);
  });
});
