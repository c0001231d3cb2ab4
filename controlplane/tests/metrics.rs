//! The metrics page: what a scraper reads, and that what `tuning/` uses of it exists.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod feed;
mod program;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use feed::Feed;
use program::{Program, WAIT_MAX};

/// The answer to a GET at the address that the log tells.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn the_page_tells_how_long_changes_took_and_has_every_name_that_rules_and_dashboard_use() {
    let directory = program::directory();
    let path = directory.path().join("gateway.yaml");
    std::fs::write(&path, "routes:\n  - id: r\n    uri: /a\n#END\n").unwrap();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let arguments = ["--file", path.to_str().unwrap(), "--metrics", "127.0.0.1:0", "--log-format", "json"];
    let program = Program::start(directory.path(), "n1", &arguments);
    let mut link = feed.accept(None);
    let first = link.full();
    link.ack(first.version);
    let address = wait("the address", || {
        let log = program.log();
        let line = log.lines().find(|line| line.contains("metrics are served"))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["address"].as_str()?.to_owned())
    });
    let page = wait("the acknowledgement", || {
        let page = get(&address, "/metrics");
        page.contains("\nringway_propagation_seconds_count 1\n").then_some(page)
    });
    for line in [
        "ringway_controlplane_revision 1",
        "ringway_controlplane_objects 1",
        "ringway_controlplane_source_connected 1",
        "ringway_controlplane_dataplane_connected 1",
        "ringway_controlplane_dataplane_revision 1",
        "ringway_controlplane_applied_total{form=\"full\"} 1",
        "ringway_propagation_stage_seconds_count{stage=\"last_core\"} 1",
        "ringway_propagation_seconds_bucket{le=\"+Inf\"} 1",
    ] {
        assert!(page.lines().any(|other| other == line), "no {line} in {page}");
    }
    assert!(get(&address, "/").starts_with("HTTP/1.1 404"));

    let there: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for file in ["../tuning/prometheus/ringway.rules.yml", "../tuning/grafana/ringway.json"] {
        let text = std::fs::read_to_string(file).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        // Of the data plane's, one has such a name too; its test looks for all others.
        let own = words.filter(|word| {
            (word.starts_with("ringway_controlplane_") || word.starts_with("ringway_propagation_"))
                && *word != "ringway_controlplane_silence_seconds"
        });
        let own: BTreeSet<&str> = own.collect();
        assert!(!own.is_empty(), "{file}");
        for name in own {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(there.contains(family.unwrap_or(name)), "{file} uses {name}, which is not there");
        }
    }
}
