-- A consumer whose time is over goes with its credentials, as it does when it is deleted: else one of them would let it in for ever.

create or replace function ringway.expired(moment timestamptz) returns table (kind text, id text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive past as materialized (
        select r.kind, r.id, r.spec from ringway.resource r where r.expires_at <= moment
        union
        select c.kind, c.id, c.spec from ringway.resource r
          join ringway.resource c on c.kind = 'credentials' and split_part(c.id, '/', 1) = r.id
         where r.kind = 'consumers' and r.expires_at <= moment
    ), kept as (
        select p.kind, p.id, p.spec from past p
         where p.kind in ('services', 'plugin_configs', 'consumer_groups', 'upstreams', 'protos', 'ssls')
           and exists (select from ringway.resource r
                        where (r.expires_at is null or r.expires_at > moment)
                          and ringway.refers(r.kind, r.id, r.spec, p.kind, p.id))
        union
        select p.kind, p.id, p.spec from past p join kept k on ringway.refers(k.kind, k.id, k.spec, p.kind, p.id)
    )
    select p.kind, p.id from past p where not exists (select from kept k where k.kind = p.kind and k.id = p.id)
$$;
