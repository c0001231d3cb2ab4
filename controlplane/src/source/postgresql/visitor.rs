//! A further connection, for who writes: the Admin API. The source itself keeps to its one.
//!
//! It goes to the same server that the source would take: the primary of the highest timeline.

use tokio_postgres::Client;

use super::session::{Session, open};
use super::target::Target;
use super::trouble::Trouble;

/// See the module.
#[derive(Debug)]
pub struct Visitor(Session);

impl Visitor {
    /// Connects.
    pub async fn connect(target: &Target) -> Result<Visitor, Trouble> {
        Ok(Visitor(open(target.clone(), None).await?))
    }

    /// To send statements with.
    pub fn client(&mut self) -> &mut Client {
        &mut self.0.client
    }

    /// Whether the server only reads.
    pub fn is_standby(&self) -> bool {
        self.0.facts.standby
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
