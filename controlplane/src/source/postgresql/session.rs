//! One connection to one server, its notifications, and what the server says about itself.
//!
//! [`open`] asks all hosts at once and takes the primary of the highest timeline, so that an old primary that still runs never wins
//! over the promoted one. Every wait has a limit on this side too: a server that is stopped but not dead, or behind a network that
//! drops packets, answers nothing and closes nothing.

use std::future::{Future, poll_fn};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket};

use super::load::Look;
use super::target::{OneHost, Target, Wanted};
use super::tls::{Connector, Mode, Stream};
use super::trouble::Trouble;

/// For any one short statement.
pub(super) const QUERY_MAX: Duration = Duration::from_secs(5);
/// How long a primary in hand waits for the other hosts, which may know of a newer one.
const RIVALS_MAX: Duration = Duration::from_millis(250);
/// The migrations' SQL functions have bodies that 14 was the first to parse.
const SERVER_VERSION_MIN: i32 = 140_000;

/// The server's own limits for this session; the client's are a little longer, so that the server's message is heard. The TCP
/// settings make the server free the connection of a node that a cut network has taken away: its own default is two hours. A limit
/// on idle sessions is taken off: this one waits for notifications. (13 does not know it, and is to be told that it is too old.)
/// Where the planner expects too much, as it does of tables without statistics, compiling a statement takes half a second of which running
/// it takes a tenth of a millisecond: no statement here is worth that.
const SETTINGS: &str = "set statement_timeout = '60s'; set lock_timeout = '30s'; \
    set idle_in_transaction_session_timeout = '60s'; set client_min_messages = warning; set jit = off; \
    set tcp_keepalives_idle = 20; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 4; \
    set tcp_user_timeout = 40000; \
    select set_config(name, '0', false) from pg_settings where name = 'idle_session_timeout'";

const FACTS: &str = "select pg_is_in_recovery(), current_setting('server_version_num')::int, \
    (select system_identifier from pg_control_system()), \
    case when pg_is_in_recovery() then 0 \
         else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end, \
    case when pg_is_in_recovery() \
         then coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint, 0) else 0 end, \
    current_setting('transaction_read_only') = 'off'";

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
    /// Whether it takes writes: not on a standby, and not where `default_transaction_read_only` is on.
    pub(super) writable: bool,
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
    /// Prepared when it is first needed.
    pub(super) look: Option<Look>,
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

    /// Ends the connection from outside.
    pub(super) fn cutter(&self) -> AbortHandle {
        self.driver.abort_handle()
    }
}

/// A connection beside the source's own, for a program that has something to write now and then.
#[derive(Debug)]
pub struct Connected(Session);

impl Connected {
    /// Connects to the best server of a target, with its TLS and its limits.
    pub async fn to(target: &Target) -> Result<Connected, Trouble> {
        open(target.clone(), None).await.map(Connected)
    }

    /// Whether it takes writes: not a standby, not a primary that only reads.
    pub fn is_writable(&self) -> bool {
        self.0.facts.writable
    }

    /// To send statements with, while this lives.
    pub fn client(&mut self) -> &mut Client {
        &mut self.0.client
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
    let wanted = target.wanted;
    let slowest = target.hosts.iter().map(|host| host.connect_max).max().unwrap_or_default();
    let mut attempts = JoinSet::new();
    for (place, host) in target.hosts.into_iter().enumerate() {
        if except.as_ref() != Some(&host.name) {
            attempts.spawn(async move { (place, host.name.clone(), connect(host).await) });
        }
    }
    // Beyond the slowest host there are two statements.
    let mut deadline = Instant::now() + slowest + QUERY_MAX;
    let mut best: Option<(usize, Session)> = None;
    let mut failures = Vec::new();
    while let Ok(Some(joined)) = timeout_at(deadline, attempts.join_next()).await {
        let Ok((place, name, result)) = joined else { continue };
        match result {
            Ok(session) if !suits(wanted, &session.facts) => {
                let text = "is a primary, and the database URL asks for a standby (target_session_attrs)";
                failures.push((place, Trouble::refused(text).at(&name)));
            }
            Ok(session) => {
                if session.facts.standby != (wanted == Wanted::Primary) {
                    deadline = deadline.min(Instant::now() + RIVALS_MAX);
                }
                let better = best
                    .as_ref()
                    .is_none_or(|(at, best)| is_better(wanted, &session.facts, place, &best.facts, *at));
                if better {
                    best = Some((place, session));
                }
            }
            Err(trouble) => failures.push((place, trouble.at(&name))),
        }
    }
    best.map(|(_, session)| session).ok_or_else(|| together(failures))
}

fn suits(wanted: Wanted, facts: &Facts) -> bool {
    match wanted {
        Wanted::Primary | Wanted::PreferStandby => true,
        Wanted::Standby => facts.standby,
        Wanted::ReadOnly => facts.standby || !facts.writable,
    }
}

fn is_better(wanted: Wanted, new: &Facts, new_place: usize, old: &Facts, old_place: usize) -> bool {
    let rank = |facts: &Facts| {
        let kind = facts.standby != (wanted == Wanted::Primary);
        (kind, facts.timeline, facts.writable, facts.replayed)
    };
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
    let limit = host.connect_max;
    let attempt = timeout(limit, greeted(&host)).await;
    let (client, mut connection) = attempt.map_err(|_| Trouble::timeout("connecting", limit))??;
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
    let facts = Facts { standby: true, lineage: 0, timeline: 0, replayed: 0, writable: false };
    let mut session = Session { client, facts, host: host.name, hints, look: None, driver };
    limited("setting up the session", QUERY_MAX, session.client.batch_execute(SETTINGS)).await?;
    session.refresh().await?;
    Ok(session)
}

/// Connects and logs in. Where TLS is only preferred, and is what went wrong, once more without, as libpq does it.
async fn greeted(host: &OneHost) -> Result<(Client, Connection<Socket, Stream<Socket>>), Trouble> {
    let told = |error: tokio_postgres::Error| {
        let is_server = error.as_db_error().is_some();
        let trouble = Trouble::from(error);
        if is_server { trouble } else { trouble.with_advice("is it PostgreSQL that listens there?") }
    };
    // The files are read each time: a renewed certificate needs no restart.
    let connector = host.tls.connector().map_err(|error| Trouble::refused(error.to_string()))?;
    let attempt = async |config: &Config, connector: &Connector| config.connect(connector.clone()).await;
    match attempt(&host.config, &connector).await {
        Err(error) if host.tls.mode == Mode::Prefer && is_about_tls(&error) => {
            let mut plain = host.config.clone();
            plain.ssl_mode(SslMode::Disable);
            // If that fails too, the first failure says more.
            attempt(&plain, &connector).await.map_err(|_| told(error))
        }
        connected => connected.map_err(told),
    }
}

/// The handshake failed, or `pg_hba.conf` takes no encrypted connection of ours.
fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => error.to_string().starts_with("error performing TLS handshake"),
    }
}

async fn facts(client: &Client) -> Result<Facts, Trouble> {
    let row = limited("asking the server what it is", QUERY_MAX, client.query_one(FACTS, &[])).await?;
    let version: i32 = row.try_get(1)?;
    if version < SERVER_VERSION_MIN {
        let major = version / 10_000;
        return Err(Trouble::refused(format!("PostgreSQL {major} is too old: 14 or later is needed")));
    }
    let lineage: i64 = row.try_get(2)?;
    let timeline: i32 = row.try_get(3)?;
    Ok(Facts {
        standby: row.try_get(0)?,
        lineage: lineage.cast_unsigned(),
        timeline: timeline.cast_unsigned(),
        replayed: row.try_get(4)?,
        writable: row.try_get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(standby: bool, timeline: u32, replayed: i64) -> Facts {
        Facts { standby, lineage: 1, timeline, replayed, writable: !standby }
    }

    #[test]
    fn the_primary_of_the_highest_timeline_wins_then_the_most_advanced_standby_then_the_urls_order() {
        let is_better = |new: &Facts, at: usize, old: &Facts, old_at: usize| {
            is_better(Wanted::Primary, new, at, old, old_at)
        };
        let old = facts(false, 1, 0);
        let promoted = facts(false, 2, 0);
        assert!(is_better(&promoted, 1, &old, 0) && !is_better(&old, 0, &promoted, 1));
        assert!(is_better(&old, 1, &facts(true, 0, 900), 0));
        assert!(is_better(&facts(true, 0, 900), 1, &facts(true, 0, 800), 0));
        assert!(is_better(&old, 0, &old, 1) && !is_better(&old, 1, &old, 0));
        let read_only = Facts { writable: false, ..old };
        assert!(is_better(&old, 1, &read_only, 0));
    }

    #[test]
    fn a_standby_is_taken_first_where_one_is_preferred_and_only_where_one_is_asked_for() {
        let (primary, standby) = (facts(false, 3, 0), facts(true, 0, 7));
        let read_only = Facts { writable: false, ..primary };
        assert!(is_better(Wanted::PreferStandby, &standby, 1, &primary, 0));
        assert!(suits(Wanted::PreferStandby, &primary) && suits(Wanted::Primary, &standby));
        assert!(!suits(Wanted::Standby, &read_only) && suits(Wanted::ReadOnly, &read_only));
        assert!(!suits(Wanted::ReadOnly, &primary) && suits(Wanted::Standby, &standby));
    }
}
