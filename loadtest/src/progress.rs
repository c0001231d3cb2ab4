//! A line on the terminal about work that takes a while, rewritten in place. Silent when standard error is no
//! terminal or the user asked for silence; never on standard output, which belongs to results.

use std::io::{IsTerminal, Write};

#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    written: bool,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { shown: !quiet && std::io::stderr().is_terminal(), written: false }
    }

    /// Replaces the line. A terminal that went away is no reason to stop the work.
    pub(crate) fn set(&mut self, line: &str) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
            let _ = std::io::stderr().flush();
            self.written = true;
        }
    }

    /// Removes the line.
    pub(crate) fn clear(&mut self) {
        if self.written {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
            let _ = std::io::stderr().flush();
            self.written = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A bar of `width` characters for the share that is done.
pub(crate) fn bar(done: f64, width: usize) -> String {
    let filled = ((done.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(width - filled))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bar_never_leaves_its_width() {
        assert_eq!(super::bar(0.5, 4), "[##--]");
        assert_eq!(super::bar(7.0, 4), "[####]");
        assert_eq!(super::bar(-1.0, 4), "[----]");
    }
}
