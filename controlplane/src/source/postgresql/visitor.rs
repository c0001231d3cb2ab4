//! A further connection, for who writes: the Admin API. The source itself keeps to its one.
//!
//! It goes to the same server that the source would take: the primary of the highest timeline.

use tokio::task::AbortHandle;
use tokio_postgres::Client;

use super::migrate;
use super::session::{Session, open};
use super::target::Target;
use super::trouble::Trouble;

/// See the module.
#[derive(Debug)]
pub struct Visitor(Session);

impl Visitor {
    /// Connects. Where the schema is not this program's, there is nothing to visit: it would be misread, or written to by old rules.
    pub async fn connect(target: &Target) -> Result<Visitor, Trouble> {
        let session = open(target.clone(), None).await?;
        migrate::check_level(&session).await.map_err(|trouble| trouble.at(&session.host))?;
        Ok(Visitor(session))
    }

    /// To send statements with.
    pub fn client(&mut self) -> &mut Client {
        &mut self.0.client
    }

    /// Whether the server only reads.
    pub fn is_standby(&self) -> bool {
        self.0.facts.standby
    }

    /// Ends the connection from outside: whatever waits for an answer on it is told that it is closed.
    pub fn cutter(&self) -> AbortHandle {
        self.0.cutter()
    }

    /// The server's system identifier.
    pub fn lineage(&self) -> u64 {
        self.0.facts.lineage
    }

    /// Timeline of the WAL that it writes; 0 on a standby.
    pub fn timeline(&self) -> u32 {
        self.0.facts.timeline
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.0.client.is_closed()
    }
}
