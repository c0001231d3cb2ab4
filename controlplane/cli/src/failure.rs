//! What went wrong, in words for the person at the terminal.
//!
//! Every error of this program ends as one line on stderr that says what failed and what to do, so there is
//! one type for all of them. Nothing matches on it; where a caller must decide, it gets an enum instead.

use std::fmt;

/// One line for the operator.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure that says this.
    pub(crate) fn new(line: impl Into<String>) -> Failure {
        Failure(line.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Puts what was being done before what the system said.
pub(crate) trait Doing<T> {
    /// `doing` is read as "cannot {doing}: {error}".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("cannot {}: {error}", doing())))
    }
}
