//! Where a gateway runs, as far as what a configuration means there depends on it: its zone, and the variables of its environment that
//! secrets may be kept in.
//!
//! The configuration itself, its digest and its version are the same on every node: references travel, and each node resolves them when it
//! compiles. Nothing here is ever printed but the zone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// The gateway's zone, whose nodes come first where an upstream says so.
    pub zone: Option<Arc<str>>,
    /// What `$env://` refers to.
    pub environment: Environment,
}

/// Variables by name. They are those of the process, from its start on.
#[derive(Clone, Default)]
pub struct Environment(Arc<BTreeMap<String, String>>);

impl Environment {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Environment {
        Environment(Arc::new(variables.into_iter().collect()))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
