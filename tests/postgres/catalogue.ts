import type { TestDatabase } from './database.ts';

/** Questions to the system catalogues (PostgreSQL chapter 53), each ordered; together all that init.sql can define. */
const QUESTIONS: Readonly<Record<string, string>> = {
  relations: `select c.relname, c.relkind, c.relpersistence, c.reloptions, c.relacl, pg_get_viewdef(c.oid) as view
    from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind <> 'i' order by c.relname`,
  columns: `select c.relname, row_number() over (partition by c.oid order by a.attnum) as place, a.attname,
      format_type(a.atttypid, a.atttypmod) as type, a.attnotnull, a.attidentity, a.attgenerated, a.attcompression,
      a.attstorage, a.attcollation::regcollation::text as collation, pg_get_expr(d.adbin, d.adrelid) as value
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and c.relkind <> 'i' order by c.relname, a.attnum`,
  indexes: `select indexdef from pg_indexes where schemaname = 'public' order by indexdef`,
  constraints: `select conrelid::regclass::text as relation, conname, convalidated, pg_get_constraintdef(oid) as definition
    from pg_constraint where connamespace = 'public'::regnamespace order by 1, 2`,
  sequences: `select sequencename, data_type::text, start_value, min_value, max_value, increment_by, cycle, cache_size
    from pg_sequences where schemaname = 'public' order by sequencename`,
  functions: `select oid::regprocedure::text as function, pg_get_functiondef(oid) as definition, proacl
    from pg_proc where pronamespace = 'public'::regnamespace order by 1`,
  triggers: `select pg_get_triggerdef(oid) as definition, tgenabled from pg_trigger where not tgisinternal order by 1`,
  types: `select t.typname, t.typtype from pg_type t
    where t.typnamespace = 'public'::regnamespace order by t.typname`,
  comments: `select i.type, i.identity, d.description
    from pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
    where i.schema = 'public' or i.identity like 'public.%' or i.identity like '% on public.%' order by 1, 2`,
};

/** What a database defines, as text that two databases of one schema share to the last letter. */
export async function catalogueOf(database: Pick<TestDatabase, 'query'>): Promise<string> {
  const found: Record<string, unknown> = {};
  for (const [name, sql] of Object.entries(QUESTIONS)) found[name] = await database.query(sql);
  return JSON.stringify(found, null, 1);
}
