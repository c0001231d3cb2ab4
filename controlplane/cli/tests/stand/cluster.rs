//! A private PostgreSQL cluster on a Unix socket, and sessions to it.
//!
//! The server is the one of the control plane's tests. Sessions are kept open, because a thousand transactions in a row
//! should measure the gateway and not the start of psql.

use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::wait_until;

#[path = "../../../tests/cluster/mod.rs"]
#[allow(clippy::zombie_processes, reason = "the server is waited for when its cluster is dropped")]
mod server;

/// A cluster that is deleted with its stand.
pub(crate) struct Cluster(server::Cluster);

impl Cluster {
    /// Makes and starts one.
    pub(crate) fn start() -> Cluster {
        Cluster(server::Cluster::start())
    }

    /// Starts the server again and waits until it takes connections.
    pub(crate) fn start_again(&mut self) {
        self.0.start_server();
    }

    /// kill -9 of the server; its backends notice by themselves.
    pub(crate) fn kill(&mut self) {
        self.0.kill();
        let url = self.url();
        wait_until("PostgreSQL to be gone", || Sql::try_connect(&url).is_none().then_some(()));
    }

    /// A standby that streams from it.
    pub(crate) fn standby(&self) -> Cluster {
        Cluster(self.0.standby())
    }

    /// A backup of it that was restored without recovery: another primary of the same timeline.
    pub(crate) fn restored(&self) -> Cluster {
        Cluster(self.0.restored())
    }

    /// Makes a primary of a standby.
    pub(crate) fn promote(&self) {
        self.0.promote();
    }

    /// Stops it in order.
    pub(crate) fn stop(&mut self) {
        self.0.stop();
    }

    /// The directory of its socket.
    pub(crate) fn host(&self) -> String {
        self.0.host()
    }

    /// As the control plane gets it.
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// A session in the database of the gateway.
    pub(crate) fn sql(&self) -> Sql {
        let url = self.url();
        wait_until("a session", || Sql::try_connect(&url))
    }
}

/// One session.
pub(crate) struct Sql {
    client: tokio_postgres::Client,
    runtime: Runtime,
}

impl Sql {
    fn try_connect(url: &str) -> Option<Sql> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).ok()?;
        runtime.spawn(connection);
        Some(Sql { client, runtime })
    }

    /// Statements; all of them are one transaction.
    pub(crate) fn run(&self, statements: &str) {
        let done = self.runtime.block_on(self.client.batch_execute(statements));
        done.unwrap_or_else(|error| panic!("{error:?} of {statements}"));
    }

    /// The same, and the revision that they made.
    pub(crate) fn change(&self, statements: &str) -> u64 {
        self.run(&format!("BEGIN; {statements}; COMMIT"));
        self.number("SELECT revision FROM ringway.head")
    }

    /// One number.
    pub(crate) fn number(&self, query: &str) -> u64 {
        let row = self.runtime.block_on(self.client.query_one(query, &[])).unwrap();
        row.get::<_, i64>(0).cast_unsigned()
    }

    /// Rows as text, a line each.
    pub(crate) fn text(&self, query: &str) -> String {
        let rows = self.runtime.block_on(self.client.query(query, &[])).unwrap();
        let rows: Vec<String> = rows.iter().map(|row| row.get::<_, String>(0)).collect();
        rows.join("\n")
    }
}
