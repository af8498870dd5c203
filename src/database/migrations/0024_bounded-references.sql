-- Dangling references are looked up for a bounded number of targets: the sample shrinks as the archive grows.

alter table reference_totals add column sampled integer not null default 256;
comment on column reference_totals.sampled is 'Targets whose second byte is below this are counted, of 256: fewer where there are more than can be looked up (samples.ts).';

create or replace view dangling_references as
select t.kind, t."references", t.missing, round(t.sampled / 65536.0, 6) as sample_share, t.as_of
from reference_totals t;
comment on view dangling_references is 'References to events (tag e) that the archive lacks, by kind of the events that refer. Counted for targets whose id begins with the hex digits 00, or a part of them.';
