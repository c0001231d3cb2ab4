//! A control plane with the Admin API over a private PostgreSQL, once its schema is in place.
#![allow(dead_code, unreachable_pub, reason = "each test crate includes this file and uses a part of it")]

use std::time::Instant;

use crate::api::{self, Api};
use crate::cluster::Cluster;
use crate::program::{self, Program, WAIT_MAX};

/// See the module.
pub struct Stand {
    pub program: Program,
    pub api: Api,
    pub cluster: Cluster,
    pub directory: tempfile::TempDir,
}

impl Stand {
    pub fn new() -> Stand {
        Stand::with("")
    }

    /// With these statements before the control plane comes.
    pub fn with(statements: &str) -> Stand {
        let cluster = Cluster::start();
        if !statements.is_empty() {
            cluster.sql(statements);
        }
        let directory = program::directory();
        let (mut program, api) = api::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
        program.wait_status("the schema is there", |status| status["version"]["revision"] == 0);
        Stand { program, api, cluster, directory }
    }

    /// The revision in the database.
    pub fn head(&self) -> u64 {
        self.cluster.sql("select revision from ringway.head").parse().expect("a revision")
    }

    /// Kind, id and spec of all objects.
    pub fn objects(&self) -> String {
        self.cluster.sql("select kind, id, spec from ringway.resource order by 1, 2")
    }

    /// The objects and the revision: what no refused request may change.
    pub fn all(&self) -> (String, u64) {
        (self.objects(), self.head())
    }

    #[track_caller]
    pub fn wait_sql(&self, query: &str, wanted: &str) {
        let deadline = Instant::now() + WAIT_MAX;
        while self.cluster.sql(query) != wanted {
            assert!(Instant::now() < deadline, "{query}");
        }
    }
}
