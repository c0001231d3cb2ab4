//! Lines for the person at the terminal.
//!
//! `println!` panics when the reader has gone (`ringway up | head -1`); a supervisor must not die of that, so
//! every line goes through [`say`], which does not care. What comes from logs is stripped of control
//! characters first, because it may repeat what a client sent.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::{Value, json};

/// Lines are told as JSON from now on.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// One line on standard output.
pub(crate) fn say(line: &str) {
    if AS_JSON.load(Relaxed) {
        write(&json!({ "line": line }).to_string());
    } else {
        write(line);
    }
}

/// A document on a line of standard output.
pub(crate) fn document(document: &Value) {
    write(&document.to_string());
}

/// From now on every line is a document, for a command that says lines as it goes.
pub(crate) fn say_as_json() {
    AS_JSON.store(true, Relaxed);
}

fn write(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// One line on standard error.
pub(crate) fn warn(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Without colours (`ESC [ ... m`) and other control characters.
pub(crate) fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next() == Some('[') {
                let _ = chars.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if c == '\t' || !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_control_characters_are_taken_out() {
        assert_eq!(plain("\u{1b}[33m WARN\u{1b}[0m a\tb\u{7}\r"), " WARN a\tb");
        assert_eq!(plain("cut \u{1b}["), "cut ");
    }
}
