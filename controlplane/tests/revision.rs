//! What the triggers on `ringway.resource` promise: one revision and one notification a transaction, in the order
//! of commits, without gaps, for any role that may write the table.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod program;

use cluster::Cluster;
use program::Program;

/// A cluster whose schema the real program has made.
fn migrated() -> Cluster {
    let cluster = Cluster::start();
    let directory = program::directory();
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    program.wait_status("a version", |status| !status["version"].is_null());
    assert!(program.terminate().success());
    cluster
}

fn revision(cluster: &Cluster) -> u64 {
    cluster.sql("select revision from ringway.head").parse().expect("a number")
}

fn notifications(output: &str) -> usize {
    output.lines().filter(|line| line.contains("Asynchronous notification \"ringway\"")).count()
}

fn insert(id: &str) -> String {
    format!(
        "insert into ringway.resource (kind, id, spec) values ('routes', '{id}', '{{\"uri\": \"/{id}\"}}');\n"
    )
}

#[test]
fn a_thousand_and_one_statements_in_one_transaction_are_one_revision_and_one_notification() {
    let cluster = migrated();
    let statements: String = (0..1001).map(|id| insert(&id.to_string())).collect();
    let output = cluster.sql(&format!("listen ringway; begin; {statements} commit;"));
    assert_eq!(notifications(&output), 1, "{output}");
    assert_eq!(revision(&cluster), 1);
    assert_eq!(
        cluster.sql("select count(*), min(revision), max(revision) from ringway.resource"),
        "1001|1|1"
    );
    assert_eq!(cluster.sql("select count(*), min(revision), max(revision) from ringway.change"), "1001|1|1");
    let output = cluster.sql(&format!("listen ringway; {} {}", insert("a"), insert("b")));
    assert_eq!((notifications(&output), revision(&cluster)), (2, 3), "each statement alone is a transaction");
}

#[test]
fn revisions_of_concurrent_transactions_follow_their_commits_without_gaps() {
    let cluster = migrated();
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let transactions: String = (0..40)
                .map(|n| {
                    format!(
                        "begin; {} {} commit;\n",
                        insert(&format!("{writer}-{n}")),
                        insert(&format!("{writer}-{n}-b"))
                    )
                })
                .collect();
            cluster.spawn_sql(&transactions)
        })
        .collect();
    // In any snapshot there are as many pairs of rows as the head says that there were transactions.
    let look = "select revision, (select count(*) from ringway.resource) from ringway.head;\n".repeat(400);
    let looks = cluster.sql(&look);
    for writer in writers {
        let output = writer.wait_with_output().expect("psql ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for look in looks.lines() {
        let (revision, rows) = look.split_once('|').expect("two columns");
        let (revision, rows): (u64, u64) = (revision.parse().unwrap(), rows.parse().unwrap());
        assert_eq!(
            rows,
            revision * 2,
            "a revision was seen without its rows, or rows without their revision"
        );
    }
    assert_eq!(revision(&cluster), 240);
    assert_eq!(
        cluster.sql("select count(distinct revision), min(revision), max(revision) from ringway.change"),
        "240|1|240"
    );
    // The rows of one transaction have one revision.
    assert_eq!(
        cluster.sql(
            "select count(*) from (select revision from ringway.resource group by 1 having count(*) <> 2) x"
        ),
        "0"
    );
}

#[test]
fn what_is_rolled_back_leaves_no_gap_and_no_notification() {
    let cluster = migrated();
    let output = cluster.sql(&format!("listen ringway; begin; {} rollback; {}", insert("a"), insert("b")));
    assert_eq!((notifications(&output), revision(&cluster)), (1, 1), "{output}");
    let output = cluster.sql(&format!(
        "listen ringway; begin; savepoint s; {} rollback to s; {} savepoint t; {} release t; savepoint u; {} rollback to u; commit;",
        insert("c"), insert("d"), insert("e"), insert("f")
    ));
    assert_eq!((notifications(&output), revision(&cluster)), (1, 2), "{output}");
    assert_eq!(
        cluster.sql("select string_agg(id, ',' order by id) from ringway.resource where revision = 2"),
        "d,e"
    );
    assert_eq!(
        cluster.sql("select string_agg(id, ',' order by id) from ringway.change where revision = 2"),
        "d,e"
    );
    let output =
        cluster.sql(&format!("listen ringway; begin; savepoint s; {} rollback to s; commit;", insert("g")));
    assert_eq!((notifications(&output), revision(&cluster)), (0, 2), "{output}");
}

#[test]
fn what_changes_nothing_takes_no_revision() {
    let cluster = migrated();
    cluster.sql(&insert("a"));
    let output = cluster.sql(
        r#"listen ringway;
        update ringway.resource set spec = spec;
        update ringway.resource set spec = '{"uri": "/x"}' where id = 'nobody';
        delete from ringway.resource where id = 'nobody';
        update ringway.resource set revision = 99, created_at = '2001-01-01', updated_at = '2001-01-01';
        insert into ringway.resource (kind, id, spec) values ('routes', 'a', '{}') on conflict do nothing;
        insert into ringway.resource (kind, id, spec) values ('routes', 'a', '{"uri": "/a"}')
            on conflict (kind, id) do update set spec = excluded.spec;
        merge into ringway.resource r using (values ('a', '{"uri": "/a"}'::jsonb)) n (id, spec) on r.id = n.id
            when matched then update set spec = n.spec;"#,
    );
    assert_eq!((notifications(&output), revision(&cluster)), (0, 1), "{output}");
    assert_eq!(cluster.sql("select revision, created_at = updated_at from ringway.resource"), "1|t");
    // jsonb calls these two equal, the digest of a configuration does not.
    cluster.sql(r#"update ringway.resource set spec = '{"uri": "/a", "priority": 1}'"#);
    cluster.sql(r#"update ringway.resource set spec = '{"uri": "/a", "priority": 1.0}'"#);
    assert_eq!(revision(&cluster), 3);
    let output = cluster.sql(
        r#"listen ringway; insert into ringway.resource (kind, id, spec) values ('routes', 'a', '{"uri": "/b"}')
            on conflict (kind, id) do update set spec = excluded.spec;"#,
    );
    assert_eq!((notifications(&output), revision(&cluster)), (1, 4), "{output}");
    assert_eq!(cluster.sql("select revision from ringway.resource"), "4");
}

#[test]
fn the_history_tells_what_each_revision_did() {
    let cluster = migrated();
    let history = |revision: u64| {
        cluster.sql(&format!(
            "select id, before->>'uri', after->>'uri' from ringway.change where revision = {revision} order by seq"
        ))
    };
    cluster.sql(&format!("begin; {} {} commit", insert("a"), insert("b")));
    assert_eq!(history(1), "a||/a\nb||/b");
    cluster.sql("begin; delete from ringway.resource where id = 'a'; insert into ringway.resource (kind, id, spec) values ('routes', 'a', '{\"uri\": \"/n\"}'); commit");
    assert_eq!(history(2), "a|/a|\na||/n");
    assert_eq!(cluster.sql("select id, revision from ringway.resource order by id"), "a|2\nb|1");
    cluster.sql("update ringway.resource set id = 'c' where id = 'a'");
    assert_eq!(history(3).lines().collect::<std::collections::BTreeSet<_>>(), ["a|/n|", "c||/n"].into());
    cluster.sql("begin; truncate ringway.resource; commit");
    assert_eq!(history(4).lines().collect::<std::collections::BTreeSet<_>>(), ["b|/b|", "c|/n|"].into());
    assert_eq!(cluster.sql("select count(*) from ringway.resource"), "0");
    assert_eq!(cluster.sql("select distinct actor from ringway.change"), "postgres");
    cluster.sql(&format!("begin; set local ringway.actor = 'alice via admin'; {} commit", insert("d")));
    assert_eq!(cluster.sql("select actor from ringway.change where revision = 5"), "alice via admin");
}

#[test]
fn a_role_that_may_only_write_the_objects_can_and_can_do_nothing_else() {
    let cluster = migrated();
    cluster.sql(
        "create role writer login; grant usage on schema ringway to writer;
         grant select, insert, update, delete on ringway.resource to writer",
    );
    let written = cluster.try_sql(
        "writer",
        &format!(
            "begin; {} update ringway.resource set spec = '{{\"uri\": \"/n\"}}'; delete from ringway.resource; {} commit",
            insert("a"),
            insert("b")
        ),
    );
    assert_eq!(written, Ok(String::new()));
    assert_eq!(revision(&cluster), 1);
    assert_eq!(cluster.sql("select distinct actor from ringway.change"), "writer");
    for forbidden in [
        "update ringway.head set revision = 99",
        "delete from ringway.change",
        "insert into ringway.change (revision, actor, kind, id) values (1, 'x', 'routes', '1')",
        "select ringway.take_revision()",
        "delete from ringway.refusal",
    ] {
        let error = cluster.try_sql("writer", forbidden).expect_err(forbidden);
        assert!(error.contains("permission denied"), "{forbidden}: {error}");
    }
    // A search_path of the writer's own must not reach into the functions that run with the owner's rights.
    let trap = "create schema trap authorization writer; set role writer;
        create function trap.now() returns timestamptz language sql as $$ select '2001-01-01'::timestamptz $$;
        create table trap.head (revision bigint); reset role";
    cluster.sql(trap);
    let written =
        cluster.try_sql("writer", &format!("set search_path = trap, ringway, pg_catalog; {}", insert("c")));
    assert_eq!(written, Ok(String::new()));
    assert_eq!(revision(&cluster), 2);
}

#[test]
fn transactions_that_meet_on_two_rows_do_not_wait_for_each_other_for_ever() {
    let cluster = migrated();
    cluster.sql(&format!("begin; {} {} commit", insert("a"), insert("b")));
    // The first takes its second row only when the other session waits: without the early lock that is a deadlock.
    let first = cluster.spawn_sql(
        "begin;
         update ringway.resource set spec = '{\"uri\": \"/1\"}' where id = 'a';
         do $$ begin
             for n in 1..3000 loop
                 perform pg_stat_clear_snapshot();
                 exit when exists (select from pg_stat_activity where wait_event_type = 'Lock');
                 perform pg_sleep(0.01);
             end loop;
         end $$;
         update ringway.resource set spec = '{\"uri\": \"/1\"}' where id = 'b';
         commit",
    );
    let second = cluster.spawn_sql(
        "do $$ begin
             for n in 1..3000 loop
                 perform pg_stat_clear_snapshot();
                 exit when exists (select from pg_stat_activity where wait_event = 'PgSleep' and pid <> pg_backend_pid());
                 perform pg_sleep(0.001);
             end loop;
         end $$;
         begin;
         update ringway.resource set spec = '{\"uri\": \"/2\"}' where id = 'b';
         update ringway.resource set spec = '{\"uri\": \"/2\"}' where id = 'a';
         commit",
    );
    for session in [first, second] {
        let output = session.wait_with_output().expect("psql ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(cluster.sql("select string_agg(spec->>'uri', ',') from ringway.resource"), "/2,/2");
    assert_eq!(revision(&cluster), 3);
}

#[test]
fn a_row_that_cannot_be_an_object_is_refused_at_once() {
    let cluster = migrated();
    for (kind, id, spec) in
        [("rotues", "1", "{}"), ("routes", "a b", "{}"), ("routes", "", "{}"), ("routes", "1", "[]")]
    {
        let insert =
            format!("insert into ringway.resource (kind, id, spec) values ('{kind}', '{id}', '{spec}')");
        let error = cluster.try_sql("postgres", &insert).expect_err(&insert);
        assert!(error.contains("violates check constraint"), "{error}");
    }
    assert_eq!(revision(&cluster), 0);
}

#[test]
fn a_dump_restored_into_another_cluster_starts_its_own_lineage() {
    let cluster = migrated();
    cluster.sql(&insert("a"));
    // As a dump of another cluster leaves it: that cluster's identity, timeline, and a transaction number that is not ours.
    cluster.sql("update ringway.head set lineage = 1, timeline = 7, xid = '9999999'");
    cluster.sql(&insert("b"));
    assert_eq!(
        cluster.sql("select revision, timeline from ringway.head"),
        "2|7",
        "it never goes back unseen"
    );
    let directory = program::directory();
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    program.wait_status("a version", |status| status["version"]["revision"] == 3);
    assert_eq!(
        cluster.sql(
            "select revision, timeline, lineage = system_identifier from ringway.head, pg_control_system()"
        ),
        "3|1|t"
    );
}
