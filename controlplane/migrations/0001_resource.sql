-- The configuration and its history. Plain SQL on ringway.resource is as good as the Admin API.

create table ringway.resource (
    kind       text        not null check (kind in (
                   'routes', 'services', 'upstreams', 'consumers', 'credentials', 'consumer_groups', 'plugin_configs',
                   'global_rules', 'ssls', 'secrets', 'stream_routes', 'plugin_metadata', 'protos')),
    id         text        not null check (id ~ '^[A-Za-z0-9._-]{1,64}$'),
    spec       jsonb       not null check (jsonb_typeof(spec) = 'object'),
    revision   bigint      not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (kind, id)
);
comment on table ringway.resource is
    'The objects of the configuration, as Apache APISIX has them: one row an object, its JSON in spec.';
comment on column ringway.resource.revision is
    'The revision that last changed this row. Set by a trigger; what a statement gives is not used.';
create index resource_revision on ringway.resource (revision);

-- One row. Its lock makes the order of revisions the order of commits. It is small and often updated: room for HOT updates.
create table ringway.head (
    one      boolean     primary key default true check (one),
    revision bigint      not null,
    timeline integer     not null,
    lineage  bigint      not null,
    xid      xid8,
    at       timestamptz not null default now()
) with (fillfactor = 10);
comment on table ringway.head is 'One row: the last revision, and what fences it.';
comment on column ringway.head.timeline is
    'Timeline of the WAL in which that revision was written: it tells a promoted standby from an old primary.';
comment on column ringway.head.lineage is
    'System identifier of the cluster that wrote it: it tells a restored dump from the database it was taken from.';
comment on column ringway.head.xid is 'The transaction that took that revision.';

create table ringway.change (
    seq      bigint      generated always as identity primary key,
    revision bigint      not null,
    at       timestamptz not null default now(),
    actor    text        not null,
    kind     text        not null,
    id       text        not null,
    before   jsonb,
    after    jsonb
);
comment on table ringway.change is
    'History: what each revision changed. Control planes read recent rows, so keep at least the last hour.';
comment on column ringway.change.actor is
    'The setting ringway.actor where the transaction made one, else the role that logged in.';
create index change_revision on ringway.change (revision);
create index change_object on ringway.change (kind, id, seq);

create table ringway.refusal (
    node     text        not null,
    revision bigint      not null,
    timeline integer     not null,
    at       timestamptz not null default now(),
    kind     text        not null,
    id       text        not null,
    pointer  text        not null,
    reason   text        not null
);
comment on table ringway.refusal is
    'What each node refuses at present and why; empty when every node runs the last revision. pointer is a JSON pointer into spec.';
create index refusal_node on ringway.refusal (node);
