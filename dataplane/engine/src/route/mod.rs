//! The routing table: which route a request belongs to, as APISIX's `radixtree_host_uri` router over
//! lua-resty-radixtree decides it, with `:param` segments besides.
//!
//! Order of the search. Hosts: the exact one, wildcards (`*.example.com`, `*example.com`) longest first, `*`, then the
//! routes without a host. Inside a host: the exact path whatever the priority; then prefixes by the length of their
//! literal part, longest first (`/a/:id/b` and `/a/*rest` both have `/a/`). Within one exact path or one literal part: priority
//! descending, length of the pattern descending, id ascending. Each candidate is tested on its parameters, method, client address and `vars`;
//! on failure the search goes on, also to the next host.
//!
//! Cost of a lookup does not grow with the number of routes. It is one probe for the exact host and one for each length that a fitting
//! wildcard may have; then, for each host that fits, one probe for the exact path and one for each directory of the path that is as deep as
//! some pattern's. Of a directory up to four patterns are compared; where it has more, there is one probe for each
//! length of a prefix in it, and a walk of the segment trie below. That walk visits no node twice and only nodes whose pattern so far
//! fits the path, whatever the number of parameters; each candidate it meets is tested once. So the bound is the path's length plus the
//! patterns that fit a beginning of the path. Nothing is allocated once a [`Captures`] has grown to its paths.
//!
//! Invariants: pure (no clock, randomness or I/O); a table is immutable, and [`Table::update`] shares every host it does
//! not touch, and of hosts with many routes the parts it does not touch (see `shards.rs`); the result never depends on the order in which rules are given.

mod captures;
mod compile;
mod explain;
mod host;
mod host_map;
mod method;
mod nodes;
pub mod path;
mod pattern;
mod rule;
mod shards;
mod slots;
mod table;
mod trie;
mod vars;

#[cfg(test)]
mod tests;

pub use captures::Captures;
pub use explain::{EXPLAIN_STEPS_MAX, Outcome, Step};
#[cfg(test)]
pub(crate) use host::CANDIDATE_BYTES as PATTERN_BYTES;
pub use method::MethodSet;
pub use ringway_snapshot::Cidr;
pub use rule::{Removal, Rule, RuleError, rules_of};
pub use table::{Listed, Match, Query, Table};
pub use vars::holds;
