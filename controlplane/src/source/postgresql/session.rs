//! One connection to one server, its notifications, and what the server says about itself.
//!
//! [`open`] asks all hosts at once and takes the primary of the highest timeline, so that an old primary that still runs never wins
//! over the promoted one. Every wait has a limit on this side too: a server that is stopped but not dead answers nothing and
//! closes nothing.

use std::future::{Future, poll_fn};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::target::{OneHost, Target, Wanted};
use super::trouble::Trouble;

/// For a connection to be made and the server to have said who it is.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// For any one short statement.
pub(super) const QUERY_MAX: Duration = Duration::from_secs(5);
/// How long a primary in hand waits for the other hosts, which may know of a newer one.
const RIVALS_MAX: Duration = Duration::from_millis(250);
/// `xid8` and `pg_current_xact_id` are of 13.
const SERVER_VERSION_MIN: i32 = 130_000;

/// The server's own limits for this session; the client's are a little longer, so that the server's message is heard.
const SETTINGS: &str = "set statement_timeout = '60s'; set lock_timeout = '30s'; \
    set idle_in_transaction_session_timeout = '60s'; set client_min_messages = warning";

const FACTS: &str = "select pg_is_in_recovery(), current_setting('server_version_num')::int, \
    (select system_identifier from pg_control_system()), \
    case when pg_is_in_recovery() then 0 \
         else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end, \
    case when pg_is_in_recovery() \
         then coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint, 0) else 0 end";

/// What a server says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether it is a standby.
    pub(super) standby: bool,
    /// Its system identifier.
    pub(super) lineage: u64,
    /// Timeline of the WAL it writes; 0 on a standby.
    pub(super) timeline: u32,
    /// How far a standby has replayed; 0 on a primary.
    pub(super) replayed: i64,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    /// To send statements with.
    pub(super) client: Client,
    /// What the server said about itself when it was asked last.
    pub(super) facts: Facts,
    /// Which host.
    pub(super) host: String,
    /// Counts notifications; closed when the connection is.
    pub(super) hints: watch::Receiver<u64>,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // A connection that hangs would otherwise be driven for ever.
        self.driver.abort();
    }
}

impl Session {
    /// Asks the server about itself again: a standby may have been promoted.
    pub(super) async fn refresh(&mut self) -> Result<(), Trouble> {
        self.facts = facts(&self.client).await?;
        Ok(())
    }
}

/// Runs a statement with a limit.
pub(super) async fn limited<T>(
    doing: &str,
    limit: Duration,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Trouble> {
    match timeout(limit, statement).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Trouble::timeout(doing, limit)),
    }
}

/// Connects to the best server that there is, leaving out the host of that name.
pub(super) async fn open(target: Target, except: Option<String>) -> Result<Session, Trouble> {
    let mut attempts = JoinSet::new();
    for (place, host) in target.hosts.into_iter().enumerate() {
        if except.as_ref() != Some(&host.name) {
            attempts.spawn(async move { (place, host.name.clone(), connect(host).await) });
        }
    }
    let mut deadline = Instant::now() + OPEN_MAX * 2;
    let mut best: Option<(usize, Session)> = None;
    let mut failures = Vec::new();
    while let Ok(Some(joined)) = timeout_at(deadline, attempts.join_next()).await {
        let Ok((place, name, result)) = joined else { continue };
        match result {
            Ok(session) if target.wanted == Wanted::Standby && !session.facts.standby => {
                failures
                    .push((place, Trouble::refused("is a primary, and a standby is asked for").at(&name)));
            }
            Ok(session) => {
                if !session.facts.standby {
                    deadline = deadline.min(Instant::now() + RIVALS_MAX);
                }
                if best.as_ref().is_none_or(|(at, best)| is_better(&session.facts, place, &best.facts, *at)) {
                    best = Some((place, session));
                }
            }
            Err(trouble) => failures.push((place, trouble.at(&name))),
        }
    }
    best.map(|(_, session)| session).ok_or_else(|| together(failures))
}

fn is_better(new: &Facts, new_place: usize, old: &Facts, old_place: usize) -> bool {
    let rank = |facts: &Facts| (!facts.standby, facts.timeline, facts.replayed);
    (rank(new), old_place) > (rank(old), new_place)
}

/// One line for all hosts, in the URL's order, so that it stays the same while the trouble does.
fn together(mut failures: Vec<(usize, Trouble)>) -> Trouble {
    failures.sort_by_key(|(place, _)| *place);
    let cause =
        failures.iter().map(|(_, trouble)| trouble.cause).find(|cause| *cause == super::Cause::OutOfReach);
    let texts: Vec<&str> = failures.iter().map(|(_, trouble)| trouble.text.as_str()).collect();
    let text = if texts.is_empty() { "no server answered in time".to_owned() } else { texts.join("; ") };
    Trouble { text, cause: cause.unwrap_or(super::Cause::Refused) }
}

async fn connect(host: OneHost) -> Result<Session, Trouble> {
    let deadline = Instant::now() + OPEN_MAX;
    let connected = timeout_at(deadline, host.config.connect(NoTls)).await;
    let (client, mut connection) = connected.map_err(|_| Trouble::timeout("connecting", OPEN_MAX))??;
    let (count, hints) = watch::channel(0u64);
    let driver = tokio::spawn(async move {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => count.send_modify(|count| *count += 1),
                Some(Ok(AsyncMessage::Notice(notice))) => tracing::debug!(%notice, "PostgreSQL says"),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "connection to PostgreSQL ended");
                    return;
                }
                None => return,
            }
        }
    });
    // From here on the driver ends with the session, also when a limit passes.
    let facts = Facts { standby: true, lineage: 0, timeline: 0, replayed: 0 };
    let mut session = Session { client, facts, host: host.name, hints, driver };
    limited("setting up the session", QUERY_MAX, session.client.batch_execute(SETTINGS)).await?;
    session.refresh().await?;
    Ok(session)
}

async fn facts(client: &Client) -> Result<Facts, Trouble> {
    let row = limited("asking the server what it is", QUERY_MAX, client.query_one(FACTS, &[])).await?;
    let version: i32 = row.try_get(1)?;
    if version < SERVER_VERSION_MIN {
        let major = version / 10_000;
        return Err(Trouble::refused(format!("PostgreSQL {major} is too old: 13 or later is needed")));
    }
    let lineage: i64 = row.try_get(2)?;
    let timeline: i32 = row.try_get(3)?;
    Ok(Facts {
        standby: row.try_get(0)?,
        lineage: lineage.cast_unsigned(),
        timeline: timeline.cast_unsigned(),
        replayed: row.try_get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(standby: bool, timeline: u32, replayed: i64) -> Facts {
        Facts { standby, lineage: 1, timeline, replayed }
    }

    #[test]
    fn the_primary_of_the_highest_timeline_wins_then_the_most_advanced_standby_then_the_urls_order() {
        let old = facts(false, 1, 0);
        let promoted = facts(false, 2, 0);
        assert!(is_better(&promoted, 1, &old, 0) && !is_better(&old, 0, &promoted, 1));
        assert!(is_better(&old, 1, &facts(true, 0, 900), 0));
        assert!(is_better(&facts(true, 0, 900), 1, &facts(true, 0, 800), 0));
        assert!(is_better(&old, 0, &old, 1) && !is_better(&old, 1, &old, 0));
    }
}
