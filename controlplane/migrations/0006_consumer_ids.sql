-- A credential is called by its consumer's name and its own id, and a consumer's name may be longer than an id.

alter table ringway.resource drop constraint resource_id_check;
alter table ringway.resource add constraint resource_id_check check (case kind
    when 'consumers' then id ~ '^[A-Za-z0-9._-]{1,100}$'
    when 'credentials' then id ~ '^[A-Za-z0-9_-]{1,100}/credentials/[A-Za-z0-9._-]{1,64}$'
    else id ~ '^[A-Za-z0-9._-]{1,64}$' end) not valid;
