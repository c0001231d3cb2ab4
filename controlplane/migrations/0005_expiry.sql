-- Objects whose time ends: the Admin API's `?ttl=`. The end is no part of the object: it takes no revision and is in no history.

alter table ringway.resource add column expires_at timestamptz;
comment on column ringway.resource.expires_at is
    'When the object is removed; null: never. Kept for as long as something else refers to the object.';
create index resource_expires_at on ringway.resource (expires_at) where expires_at is not null;

-- Whether an object refers to another one. Where in doubt it does: what stays for too long breaks nothing.
create function ringway.refers(from_kind text, from_id text, spec jsonb, to_kind text, to_id text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
return coalesce(case to_kind
    when 'services' then spec->>'service_id' = to_id
    when 'plugin_configs' then spec->>'plugin_config_id' = to_id
    when 'consumer_groups' then spec->>'group_id' = to_id
    when 'upstreams' then exists (
        select from jsonb_path_query(spec, '$.**.upstream_id') as named (id) where id #>> '{}' = to_id)
    when 'protos' then exists (
        select from jsonb_path_query(spec, '$.**.proto_id') as named (id) where id #>> '{}' = to_id)
    when 'ssls' then exists (
        select from jsonb_path_query(spec, '$.**.client_cert_id') as named (id) where id #>> '{}' = to_id)
    when 'consumers' then from_kind = 'credentials' and starts_with(from_id, to_id || '/')
    else false
end, false);

-- What is past its time and may go: nobody refers to it but what goes with it.
create function ringway.expired(moment timestamptz) returns table (kind text, id text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive past as materialized (
        select r.kind, r.id, r.spec from ringway.resource r where r.expires_at <= moment
    ), kept as (
        select p.kind, p.id, p.spec from past p
         where p.kind in ('services', 'plugin_configs', 'consumer_groups', 'upstreams', 'protos', 'ssls', 'consumers')
           and exists (select from ringway.resource r
                        where (r.expires_at is null or r.expires_at > moment)
                          and ringway.refers(r.kind, r.id, r.spec, p.kind, p.id))
        union
        select p.kind, p.id, p.spec from past p join kept k on ringway.refers(k.kind, k.id, k.spec, p.kind, p.id)
    )
    select p.kind, p.id from past p where not exists (select from kept k where k.kind = p.kind and k.id = p.id)
$$;

-- Called by every control plane that reads a primary, all at the same moments: one does the work, the others find that it is being
-- done. What goes, goes in one transaction, by one revision. Before the head is locked it is known that something will go, and nobody
-- waits for that lock for long: who holds it may do so for minutes.
--
-- gone: how many were removed; kept: how many are past their time and stay; one of them as an example; busy: to be asked again soon;
-- next_ms: until the next one's time ends.
create function ringway.expire(out gone bigint, out kept bigint, out example text, out busy boolean, out next_ms bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
    moment timestamptz := clock_timestamp();
begin
    gone := 0;
    kept := 0;
    busy := false;
    if exists (select from ringway.resource r where r.expires_at <= moment) then
        if not pg_try_advisory_xact_lock(8244241983541967106) then
            busy := true;
        elsif exists (select from ringway.expired(moment)) then
            begin
                perform set_config('ringway.actor', 'ttl', true);
                perform 1 from ringway.head for update;
                delete from ringway.resource r using ringway.expired(moment) e where r.kind = e.kind and r.id = e.id;
                get diagnostics gone = row_count;
            exception when lock_not_available then
                busy := true;
            end;
        end if;
        if not busy then
            select count(*), min(r.kind || '/' || r.id) into kept, example
              from ringway.resource r where r.expires_at <= moment;
        end if;
    end if;
    select ceil(extract(epoch from min(r.expires_at) - clock_timestamp()) * 1000)::bigint into next_ms
      from ringway.resource r where r.expires_at > moment;
end
$$;
