//! Replays the fuzz corpus, so that what fuzzing once found stays found without a fuzzer.

#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz/exchange.rs"]
mod exchange;

use std::fs;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.flatten().map(|entry| entry.path()) {
        let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Shown when a check fails.
        println!("{}", path.display());
        check(&data);
        for end in 0..data.len().min(300) {
            check(&data[..end]);
        }
        seeds += 1;
    }
    assert!(seeds >= 5, "{target} has lost its corpus");
}

#[test]
fn the_corpus_of_request_heads_holds() {
    replay("request", checks::request);
}

#[test]
fn the_corpus_of_response_heads_holds() {
    replay("response", checks::response);
}

#[test]
fn the_corpus_of_bodies_holds() {
    replay("body", checks::body);
}

#[test]
fn the_corpus_of_exchanges_holds() {
    replay("exchange", exchange::exchanges);
}
