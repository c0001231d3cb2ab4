-- Which node runs what. Written by the control planes, read by `ringway status --fleet`; no revision is taken for it.

-- Unlogged: a beat of a thousand nodes would otherwise be written to the WAL, shipped to every standby and kept in every
-- backup. After a crash or a promotion the table is empty and the nodes fill it within seconds.
create unlogged table ringway.node (
    node            text        not null,
    control         text        not null,
    instance        text        not null,
    build           text        not null,
    started_at      timestamptz not null,
    dataplane       text        not null check (dataplane in ('connected', 'disconnected')),
    dataplane_build text,
    lineage         bigint,
    timeline        integer,
    revision        bigint,
    digest          text,
    serving_since   timestamptz,
    refusing        boolean     not null,
    refusal         text,
    refusal_at      timestamptz,
    seen_at         timestamptz not null default now(),
    stale_at        timestamptz not null,
    primary key (node, control)
) with (fillfactor = 50);
comment on table ringway.node is
    'What each node runs, one row a control plane. A row whose stale_at has passed is of a node that is silent.';
comment on column ringway.node.control is 'The control plane''s status socket: it tells two control planes of one node apart.';
comment on column ringway.node.instance is 'Drawn at each start of a control plane.';
comment on column ringway.node.lineage is 'This and the next three: the version that the data plane serves, null before the first.';
comment on column ringway.node.refusing is 'Whether something is refused at present; refusal tells the last refusal in either case.';

-- Two control planes of one node each tell what they refuse. What stands there is a state and is written anew.
delete from ringway.refusal;
alter table ringway.refusal add column control text not null default '';
comment on column ringway.refusal.control is 'The status socket of the control plane that tells it, as in ringway.node.';
drop index ringway.refusal_node;
create index refusal_node on ringway.refusal (node, control);
