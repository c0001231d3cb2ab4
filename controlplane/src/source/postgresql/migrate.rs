//! Brings the schema `ringway` to this program's level, once, however many control planes start at one moment.
//!
//! All that is missing is applied in one transaction under an advisory lock, so that nobody ever sees tables without their
//! triggers, and recorded with a checksum of its text. Where the level is right already, nothing is locked and no right but
//! to read is needed. A level above this program's is an error: a newer release has been here, and this one might misread
//! what it left.

use tokio_postgres::error::SqlState;
use xxhash_rust::xxh3::xxh3_128;

use super::session::{QUERY_MAX, Session, limited};
use super::trouble::{Cause, Trouble};

/// The migrations in order; number n stands at place n - 1.
const MIGRATIONS: [(&str, &str); 7] = [
    ("0001_resource", include_str!("../../../migrations/0001_resource.sql")),
    ("0002_revision", include_str!("../../../migrations/0002_revision.sql")),
    ("0003_node", include_str!("../../../migrations/0003_node.sql")),
    ("0004_standalone", include_str!("../../../migrations/0004_standalone.sql")),
    ("0005_expiry", include_str!("../../../migrations/0005_expiry.sql")),
    ("0006_consumer_ids", include_str!("../../../migrations/0006_consumer_ids.sql")),
    ("0007_expiry_of_consumers", include_str!("../../../migrations/0007_expiry_of_consumers.sql")),
];

/// Key of the advisory lock: "ringway" and a 1.
const LOCK: i64 = 0x7269_6e67_7761_7901;

/// For all migrations together, with waiting for others that apply them.
const MIGRATE_MAX: std::time::Duration = std::time::Duration::from_secs(60);

const LEDGER: &str = "create table if not exists ringway.migration (number integer primary key, \
    name text not null, checksum text not null, applied_at timestamptz not null default now(), \
    applied_by text not null default session_user)";

/// Makes sure that the schema is this program's.
pub(super) async fn migrate(session: &mut Session) -> Result<(), Trouble> {
    let found = level(session).await?;
    if found == MIGRATIONS.len() {
        return Ok(());
    }
    if session.facts.standby {
        return Err(Trouble::refused(format!(
            "the standby has schema \"ringway\" at level {found} of {}; a control plane has to reach the primary first",
            MIGRATIONS.len()
        )));
    }
    match tokio::time::timeout(MIGRATE_MAX, apply(session)).await {
        Ok(applied) => applied.map_err(explain),
        Err(_) => Err(Trouble::timeout("applying migrations", MIGRATE_MAX)),
    }
}

/// Whether the schema is this program's, for who only uses it.
pub(super) async fn check_level(session: &Session) -> Result<(), Trouble> {
    let found = level(session).await?;
    if found == MIGRATIONS.len() {
        return Ok(());
    }
    Err(Trouble::out_of_reach(format!(
        "schema \"ringway\" is at level {found} of {}: no control plane has brought it up yet; `ringway status` says why",
        MIGRATIONS.len()
    )))
}

async fn apply(session: &mut Session) -> Result<(), Trouble> {
    let transaction = session.client.transaction().await?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // `create schema if not exists` asks for the right to create even where the schema exists.
    let exists = transaction.query_one("select to_regnamespace('ringway') is not null", &[]).await?;
    if !exists.try_get::<_, bool>(0)? {
        transaction.batch_execute("create schema ringway").await?;
    }
    let ledger = transaction.query_one("select to_regclass('ringway.migration') is not null", &[]).await?;
    if !ledger.try_get::<_, bool>(0)? {
        transaction.batch_execute(LEDGER).await?;
    }
    let applied = transaction.query("select number, checksum from ringway.migration order by number", &[]);
    let found = check(&applied.await?)?;
    let pending = MIGRATIONS.get(found..).unwrap_or_default();
    for ((name, text), number) in pending.iter().zip(found + 1..) {
        transaction.batch_execute(text).await?;
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        transaction
            .execute(
                "insert into ringway.migration (number, name, checksum) values ($1, $2, $3)",
                &[&number, name, &checksum(text)],
            )
            .await?;
    }
    transaction.commit().await?;
    for (name, _) in pending {
        tracing::info!(migration = name, "applied a migration");
    }
    Ok(())
}

/// How many migrations are applied.
async fn level(session: &Session) -> Result<usize, Trouble> {
    let query = session.client.query("select number, checksum from ringway.migration order by number", &[]);
    match limited("reading the schema's level", QUERY_MAX, async { Ok(query.await) }).await? {
        Ok(rows) => check(&rows),
        Err(error)
            if matches!(error.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME)) =>
        {
            Ok(0)
        }
        Err(error) => Err(Trouble::from(error).at("cannot read table ringway.migration")),
    }
}

fn check(rows: &[tokio_postgres::Row]) -> Result<usize, Trouble> {
    let mut found = 0;
    for row in rows {
        let number: i32 = row.try_get(0)?;
        let recorded: String = row.try_get(1)?;
        let Some((name, text)) = MIGRATIONS.get(found) else {
            return Err(Trouble::refused(format!(
                "the database's schema has level {}, this program knows up to {}: it is older than the schema; update it",
                rows.len(),
                MIGRATIONS.len()
            )));
        };
        found += 1;
        if usize::try_from(number) != Ok(found) || recorded != checksum(text) {
            return Err(Trouble::refused(format!(
                "table ringway.migration says that migration {number} had another text than this program's {name}; \
                 the schema was made by another build or changed by hand"
            )));
        }
    }
    Ok(found)
}

fn checksum(text: &str) -> String {
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

fn explain(trouble: Trouble) -> Trouble {
    match trouble.cause {
        Cause::OutOfReach => trouble,
        Cause::ReadOnly => {
            Trouble::refused(format!("the schema is missing or old and the server only reads: {trouble}"))
        }
        Cause::Refused => trouble.at(
            "cannot create or update schema \"ringway\" (the role needs CREATE on the database, or to own the schema)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_in_order() {
        for (place, (name, text)) in MIGRATIONS.iter().enumerate() {
            assert!(name.starts_with(&format!("{:04}_", place + 1)), "{name}");
            assert!(!text.to_lowercase().contains("create schema"), "{name}: the runner makes the schema");
        }
    }
}
