-- What the last client of the Admin API's `configs` endpoint said about the configuration that it put: its digest and its numbers
-- for each kind. They are the client's, so they are kept beside the configuration and not in it.

create table ringway.standalone (
    one         boolean     primary key default true check (one),
    digest      text        not null,
    versions    jsonb       not null,
    revision    bigint      not null,
    modified_at timestamptz not null default clock_timestamp()
);
comment on table ringway.standalone is
    'One row or none: digest and <kind>_conf_version as the last PUT of the whole configuration gave them.';
comment on column ringway.standalone.revision is 'The revision that it made. Where the head is above it, others have written since.';
