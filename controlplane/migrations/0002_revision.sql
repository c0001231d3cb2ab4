-- One revision and one notification a transaction, taken by triggers on ringway.resource.
--
-- The functions run as their owner with a fixed search_path, so that a role which may only write ringway.resource can do so
-- without being able to write the history or the head.

-- Timeline of the WAL that this primary writes. Fails on a standby.
create function ringway.wal_timeline() returns integer
language sql stable
set search_path = pg_catalog, pg_temp
return ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer;

insert into ringway.head (revision, timeline, lineage)
select 0, ringway.wal_timeline(), system_identifier from pg_control_system();

-- The revision of the running transaction; the first call takes it. A sequence would leave gaps after rollbacks and
-- would not follow the order of commits. What a savepoint rolls back is given back, because it is a row like any other.
create function ringway.take_revision() returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    taken bigint;
begin
    select revision into taken from ringway.head where xid = pg_current_xact_id();
    if found then
        return taken;
    end if;
    -- A dump restored into a younger cluster must not go back in timelines before a control plane has stamped it.
    update ringway.head
       set revision = revision + 1, timeline = greatest(timeline, ringway.wal_timeline()),
           xid = pg_current_xact_id(), at = clock_timestamp()
    returning revision into taken;
    perform pg_notify('ringway', taken::text);
    return taken;
end
$$;

-- Takes the head's lock before the statement locks rows of resource. Were it taken after the first row, two
-- transactions that touch the same two rows could wait for each other. Under the lock it is known which revision the rows will
-- have if there are any; it is taken afterwards, so that a statement which changes nothing takes none.
create function ringway.before_statement() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    next bigint;
begin
    select case when xid = pg_current_xact_id() then revision else revision + 1 end into next
      from ringway.head for update;
    if not found then
        raise exception 'ringway.head has no row: the configuration cannot be changed until it is restored';
    end if;
    perform set_config('ringway.next_revision', next::text, true);
    return null;
end
$$;

-- Gives the row its revision. A row in which nothing changes keeps the one it has. Texts are compared as well, because jsonb
-- holds 1 and 1.0 for equal and the digest of a configuration does not. No definer's rights and no query: it runs for every row.
create function ringway.before_row() returns trigger
language plpgsql
as $$
begin
    if tg_op = 'INSERT' then
        new.revision := current_setting('ringway.next_revision')::bigint;
        return new;
    end if;
    new.created_at := old.created_at;
    if new.spec <> old.spec or new.spec::text <> old.spec::text or new.id <> old.id or new.kind <> old.kind then
        new.revision := current_setting('ringway.next_revision')::bigint;
        new.updated_at := clock_timestamp();
    else
        new.revision := old.revision;
        new.updated_at := old.updated_at;
    end if;
    return new;
end
$$;

create function ringway.actor() returns text
language sql stable
set search_path = pg_catalog, pg_temp
return coalesce(nullif(current_setting('ringway.actor', true), ''), session_user::text);

-- The sub-select is evaluated once, and not at all where there are no rows: then nothing changed and no revision is taken.
create function ringway.after_insert() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into ringway.change (revision, actor, kind, id, after)
    select (select ringway.take_revision()), (select ringway.actor()), kind, id, spec from new_rows;
    return null;
end
$$;

-- Rows are paired by key and not by position, so that an update which swaps two ids is told as what it does to each id.
create function ringway.after_update() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into ringway.change (revision, actor, kind, id, before, after)
    select (select ringway.take_revision()), (select ringway.actor()), kind, id, o.spec, n.spec
      from old_rows o full join new_rows n using (kind, id)
     where o.spec is distinct from n.spec or o.spec::text <> n.spec::text;
    return null;
end
$$;

create function ringway.after_delete() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into ringway.change (revision, actor, kind, id, before)
    select (select ringway.take_revision()), (select ringway.actor()), kind, id, spec from old_rows;
    return null;
end
$$;

-- Before, because afterwards the rows are gone. It always takes a revision: a snapshot taken before the lock
-- might not show rows that truncate will remove.
create function ringway.before_truncate() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform ringway.take_revision();
    insert into ringway.change (revision, actor, kind, id, before)
    select (select ringway.take_revision()), (select ringway.actor()), kind, id, spec from ringway.resource;
    return null;
end
$$;

-- Called by a control plane that finds itself on a primary. After a promotion one empty revision takes the head to the new
-- timeline, and after a restore from a dump to the new lineage. True if it took one.
create function ringway.stamp() returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    here bigint := (select system_identifier from pg_control_system());
    wal integer := ringway.wal_timeline();
    taken bigint;
begin
    update ringway.head
       set revision = revision + 1, timeline = wal, lineage = here, xid = pg_current_xact_id(), at = clock_timestamp()
     where lineage <> here or timeline < wal
    returning revision into taken;
    if found then
        perform pg_notify('ringway', taken::text);
    end if;
    return taken is not null;
end
$$;

revoke all on function ringway.take_revision(), ringway.before_statement(), ringway.before_row(), ringway.after_insert(),
    ringway.after_update(), ringway.after_delete(), ringway.before_truncate() from public;

create trigger before_statement before insert or update or delete on ringway.resource
    for each statement execute function ringway.before_statement();
create trigger before_row before insert or update on ringway.resource
    for each row execute function ringway.before_row();
create trigger after_insert after insert on ringway.resource
    referencing new table as new_rows for each statement execute function ringway.after_insert();
create trigger after_update after update on ringway.resource
    referencing old table as old_rows new table as new_rows for each statement execute function ringway.after_update();
create trigger after_delete after delete on ringway.resource
    referencing old table as old_rows for each statement execute function ringway.after_delete();
create trigger before_truncate before truncate on ringway.resource
    for each statement execute function ringway.before_truncate();
