//! What a data plane tells of its requests: latency, the access log, metrics.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stand::{Gateway, PATIENCE, named_node, node, read_message_text, wait_until};

const SLOW: Duration = Duration::from_millis(60);

/// A configuration with one route to a node that answers at once and one to a node that takes its time.
fn gateway_with_two_routes() -> Gateway {
    gateway_with(&[])
}

fn gateway_with(flags: &[&str]) -> Gateway {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), flags);
    let slow = node(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while read_message_text(&mut reader).is_some() {
            std::thread::sleep(SLOW);
            if writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    let fast = json!({"uri": "/fast", "upstream": {"nodes": {named_node("a").to_string(): 1}}});
    let slow = json!({"uri": "/slow", "upstream": {"nodes": {slow.to_string(): 1}}});
    gateway.configure(1, &[("routes", "fast", fast), ("routes", "slow", slow)]);
    gateway
}

fn get(gateway: &Gateway, path: &str) -> String {
    gateway.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
}

#[test]
fn show_latency_tells_percentiles_of_requests_and_nodes_whole_and_by_core() {
    let gateway = gateway_with_two_routes();
    for _ in 0..9 {
        assert!(get(&gateway, "/fast").starts_with("HTTP/1.1 200"));
    }
    assert!(get(&gateway, "/slow").starts_with("HTTP/1.1 200"));
    assert!(get(&gateway, "/nowhere").starts_with("HTTP/1.1 404"));
    // The client may have its answer before the request is counted.
    let latency = wait_until("eleven requests", || {
        let latency = gateway.ctl_json("show latency");
        (latency["since_start"]["request"]["count"] == 11).then_some(latency)
    });
    for window in ["last_10s", "last_1m", "since_start"] {
        let window = &latency[window];
        assert!(window["seconds"].as_f64().unwrap() > 0.0);
        assert_eq!(window["request"]["count"], 11, "{window}");
        assert_eq!(window["upstream"]["count"], 10, "the 404 went to no node: {window}");
        for what in ["request", "upstream"] {
            let (p50, p999, max) =
                (&window[what]["p50_us"], &window[what]["p999_us"], &window[what]["max_us"]);
            let [p50, p999, max] = [p50, p999, max].map(|us| us.as_u64().unwrap());
            assert!(u128::from(max) >= SLOW.as_micros(), "{window}");
            assert!(u128::from(max) < PATIENCE.as_micros(), "{window}");
            assert!(p50 <= p999 && p999 <= max, "{window}");
        }
        let cores = window["cores"].as_array().unwrap();
        let sum: u64 = cores.iter().map(|core| core["request"]["count"].as_u64().unwrap()).sum();
        assert_eq!((cores.len(), sum), (2, 11));
    }
    let text = gateway.ctl("show latency");
    assert!(text.contains("p99.9") && text.contains("core 1"), "{text}");
}

/// Starts one that logs to a file of a folder that lives as long as what is returned.
fn gateway_that_logs(flags: &[&str]) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let gateway = gateway_with(&[&["--access-log", path.to_str().unwrap()], flags].concat());
    (gateway, folder)
}

/// So many lines of the log, once they are there.
fn lines(path: &Path, count: usize) -> Vec<String> {
    wait_until("lines of the access log", || {
        let text = std::fs::read_to_string(path).ok()?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert!(lines.len() <= count, "{text}");
        (lines.len() == count && text.ends_with('\n')).then_some(lines)
    })
}

#[test]
fn each_finished_request_is_a_line_whatever_the_client_sends() {
    let (gateway, folder) = gateway_that_logs(&[]);
    let path = folder.path().join("access.log");
    // One that does not mind bytes that are no text.
    let node = node(|mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"hello") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").unwrap();
    });
    gateway.configure(
        2,
        &[("routes", "fast", json!({"uri": "/fast", "upstream": {"nodes": {node.to_string(): 1}}}))],
    );
    let forged = b"GET /fast?a=%0a&b=' HTTP/1.1\r\nHost: shop.test:80\r\nUser-Agent: x\"}\t\xff\\ {\"status\":200}\r\n\
        Referer: http://a/\r\nConnection: close\r\n\r\n";
    let answer = gateway.exchange(forged);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(get(&gateway, "/nowhere").starts_with("HTTP/1.1 404"));
    assert!(gateway.exchange(b"\x16\x03\x01\"hello\r\n\r\n").starts_with("HTTP/1.1 400"));
    let post = b"POST /fast HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello";
    assert!(gateway.exchange(post).contains(" 200 "));
    let mut lines: Vec<Value> =
        lines(&path, 4).iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    // The cores write in no common order.
    lines.sort_by_key(|line| line["time"].as_str().unwrap().to_owned());
    let [fast, nowhere, refused, post] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(fast["user_agent"], "x\"}\t\\xff\\ {\"status\":200}");
    assert_eq!(fast["request_uri"], "/fast?a=%0a&b='");
    let told = |line: &Value, names: [&str; 6]| names.map(|name| line[name].to_string()).join(" ");
    assert_eq!(
        told(fast, ["method", "host", "status", "route_id", "upstream", "version"]),
        r#""GET" "shop.test" 200 "fast" "routes/fast" "1:2""#
    );
    assert_eq!(fast["bytes_received"], forged.len());
    assert_eq!(
        (&fast["body_bytes_sent"], &fast["tries"], &fast["referer"]),
        (&json!(1), &json!(1), &json!("http://a/"))
    );
    assert!(fast["bytes_sent"].as_u64().unwrap() > 20);
    let [total, first_byte] =
        ["upstream_response_time", "upstream_header_time"].map(|name| fast[name][0].as_f64().unwrap());
    assert!(
        0.0 < first_byte && first_byte <= total && total <= fast["request_time"].as_f64().unwrap(),
        "{fast}"
    );
    assert!(fast["upstream_addr"][0].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        told(nowhere, ["status", "reason", "route_id", "upstream_addr", "tries", "protocol"]),
        r#"404 "no_route" null [] 0 "HTTP/1.1""#
    );
    assert_eq!((&refused["status"], &refused["reason"]), (&json!(400), &json!("bad_request")));
    assert_eq!(refused["request_uri"], "\u{16}\u{3}\u{1}\"hello");
    assert_eq!(
        (&post["method"], &post["protocol"], &post["bytes_received"]),
        (&json!("POST"), &json!("HTTP/1.0"), &json!(47))
    );
}

#[test]
fn tries_on_several_nodes_stand_in_one_line() {
    let (gateway, folder) = gateway_that_logs(&[
        "--access-log-format",
        "$status|$upstream_tries|$upstream_addr|$upstream_status",
    ]);
    let dead = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let live = named_node("live");
    // The lower priority serves only what the higher one could not.
    let nodes = json!([
        {"host": "127.0.0.1", "port": dead.port(), "weight": 1, "priority": 1},
        {"host": "127.0.0.1", "port": live.port(), "weight": 1, "priority": 0},
    ]);
    gateway.configure(2, &[("routes", "1", json!({"uri": "/*", "upstream": {"nodes": nodes}}))]);
    assert!(get(&gateway, "/").starts_with("HTTP/1.1 200"));
    let line = lines(&folder.path().join("access.log"), 1).remove(0);
    assert_eq!(line, format!("200|2|{dead}, {live}|-, 200"));
}

#[test]
fn the_upstream_that_a_plugin_chose_is_logged_and_not_the_routes_own() {
    let (gateway, folder) = gateway_that_logs(&["--access-log-format", "$upstream|$status"]);
    let nodes = |name| json!({"nodes": {named_node(name).to_string(): 1}});
    let split = json!({"rules": [{"weighted_upstreams": [{"upstream_id": "other", "weight": 1}]}]});
    let route = json!({"uri": "/*", "upstream": nodes("own"), "plugins": {"traffic-split": split}});
    gateway.configure(2, &[("upstreams", "other", nodes("other")), ("routes", "r", route)]);
    assert!(get(&gateway, "/").ends_with("other"));
    assert_eq!(lines(&folder.path().join("access.log"), 1), ["upstreams/other|200"]);
}

#[test]
fn a_routes_label_says_which_of_its_requests_are_logged() {
    let (gateway, folder) = gateway_that_logs(&["--access-log-sample", "0.5", "--access-log-errors"]);
    let node = named_node("a");
    let route = |path: &str, rate: &str| json!({"uri": path, "labels": {"ringway.access-log": rate}, "upstream": {"nodes": {node.to_string(): 1}}});
    gateway.configure(
        2,
        &[
            ("routes", "all", route("/all", "1")),
            ("routes", "none", route("/none", "off")),
            ("routes", "down", json!({"uri": "/down", "upstream": {"nodes": {}}})),
        ],
    );
    for _ in 0..20 {
        assert!(get(&gateway, "/none").starts_with("HTTP/1.1 200"));
        assert!(get(&gateway, "/down").starts_with("HTTP/1.1 503"));
        assert!(get(&gateway, "/all").starts_with("HTTP/1.1 200"));
    }
    let mut counts = BTreeMap::<String, usize>::new();
    for line in lines(&folder.path().join("access.log"), 40) {
        let line: Value = serde_json::from_str(&line).unwrap();
        *counts.entry(line["route_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("all".to_owned(), 20), ("down".to_owned(), 20)]));
}

#[test]
fn a_log_that_was_moved_away_is_made_anew() {
    let (gateway, folder) = gateway_that_logs(&[]);
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    get(&gateway, "/fast");
    lines(&path, 1);
    std::fs::rename(&path, &moved).unwrap();
    assert_eq!(gateway.ctl("log reopen").trim(), "the access log is opened anew");
    wait_until("the new file", || path.exists().then_some(()));
    get(&gateway, "/fast");
    lines(&path, 1);
    // Also by the signal, and in the end by itself.
    for moved in [folder.path().join("access.log.2"), folder.path().join("access.log.3")] {
        std::fs::rename(&path, &moved).unwrap();
        if moved.ends_with("access.log.2") {
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(i32::try_from(gateway.pid()).unwrap()).unwrap(),
                rustix::process::Signal::USR1,
            )
            .unwrap();
        }
        wait_until("the new file", || path.exists().then_some(()));
        get(&gateway, "/fast");
        lines(&path, 1);
    }
    lines(&moved, 1);
}

/// Sends requests on a kept connection and tells how many were answered.
fn requests(gateway: &Gateway, count: usize, agent: &str) {
    let mut stream = gateway.connect();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..count {
        stream
            .write_all(format!("GET /fast HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n").as_bytes())
            .unwrap();
        let (head, _) = read_message_text(&mut reader).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

fn metric(page: &str, line: &str) -> f64 {
    let found = page.lines().find_map(|other| other.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {line} in {page}")).parse().unwrap()
}

fn page(gateway: &Gateway, path: &str) -> String {
    let mut stream = stand::connect(gateway.status);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let text = stand::read_to_close(&mut stream);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn neither_a_full_disk_nor_a_reader_that_stands_still_holds_a_request_up() {
    // Some megabytes of lines: more than the pipe, what is held behind it, and the cores' rings take.
    let (agent, count) = ("x".repeat(500), 9_000);
    let full = gateway_with(&["--access-log", "/dev/full"]);
    requests(&full, 20, "x");
    let dropped = "ringway_access_log_dropped_total{at=\"file\"}";
    wait_until("dropped lines", || (metric(&page(&full, "/metrics"), dropped) >= 20.0).then_some(()));
    assert!(full.ctl_json("show errors")["access_log_trouble"].as_str().unwrap().contains("No space"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0)
        .unwrap();
    // Open, and never read until the end.
    let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let stalled = gateway_with(&["--access-log", path.to_str().unwrap()]);
    let began = Instant::now();
    requests(&stalled, count, &agent);
    assert!(began.elapsed() < PATIENCE * 3, "{:?}", began.elapsed());
    wait_until("dropped lines", || {
        let page = page(&stalled, "/metrics");
        let cores = metric(&page, "ringway_access_log_dropped_total{at=\"core\"}");
        (metric(&page, dropped) + cores > 0.0).then_some(())
    });
    // What is read in the end is whole lines still.
    let mut bytes = vec![0; 256 * 1024];
    reader.read_exact(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (whole, _) = text.rsplit_once('\n').unwrap();
    for line in whole.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn what_is_wrong_with_the_flags_ends_the_start_with_one_line() {
    for (flags, told) in [
        (["--access-log", "/nonexistent/a.log"], "create the folder"),
        (["--access-log-format", "$nope"], "$nope is not known"),
        (["--access-log-sample", "2"], "from 0 to 1"),
        (["--log", "=="], "is no filter"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = stand::command(folder.path()).args(flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(told), "{flags:?}: {said}");
    }
}

/// Checks a page as a strict reader of the text format would, and by the conventions for names
/// (<https://prometheus.io/docs/practices/naming/>). Tells the names of its lines.
fn check_page(page: &str) -> BTreeSet<String> {
    let mut families = BTreeMap::<String, String>::new();
    let (mut helped, mut present) = (None, String::new());
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && !families.contains_key(name), "{line}");
            helped = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(helped.take().as_deref(), Some(name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            if name.starts_with("ringway_") {
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                for unit in ["millisecond", "microsecond", "_ms", "_us", "kilobyte"] {
                    assert!(!name.contains(unit), "{line}");
                }
            }
            name.clone_into(&mut present);
            families.insert(name.to_owned(), kind.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            assert!(seen.insert(series.to_owned()), "twice: {line}");
            let name = series.split('{').next().unwrap();
            let suffixes: &[&str] =
                if families[&present] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(
                suffixes.iter().any(|suffix| name == format!("{present}{suffix}")),
                "{line} in {present}"
            );
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn the_metrics_page_is_what_prometheus_reads_under_both_sets_of_names() {
    let gateway = gateway_with(&["--metrics-per-route", "1"]);
    get(&gateway, "/slow");
    // By then the first route is known, and the second one is beyond the bound.
    let slow =
        "ringway_route_responses_total{route=\"slow\",service=\"\",upstream=\"routes/slow\",code=\"200\"}";
    wait_until("the first route", || page(&gateway, "/metrics").contains(slow).then_some(()));
    get(&gateway, "/fast");
    get(&gateway, "/nowhere");
    let metrics = wait_until("all of them", || {
        let page = page(&gateway, "/metrics");
        page.contains("route=\"\",service=\"\",upstream=\"\",code=\"404\"").then_some(page)
    });
    check_page(&metrics);
    assert_eq!(metric(&metrics, slow), 1.0);
    assert_eq!(
        metric(
            &metrics,
            "ringway_route_responses_total{route=\"_others\",service=\"\",upstream=\"\",code=\"200\"}"
        ),
        1.0
    );
    assert_eq!(metric(&metrics, "ringway_request_duration_seconds_count"), 3.0);
    assert_eq!(metric(&metrics, "ringway_request_duration_seconds_bucket{le=\"0.05\"}"), 2.0);
    assert!(metric(&metrics, "ringway_request_duration_seconds_sum") >= SLOW.as_secs_f64());
    assert_eq!(metric(&metrics, "ringway_responses_by_code_total{code=\"404\"}"), 1.0);
    used_names_exist(&metrics);
    let apisix = page(&gateway, "/metrics?names=apisix");
    check_page(&apisix);
    assert_eq!(apisix.lines().count(), page(&gateway, "/apisix/prometheus/metrics").lines().count());
    let status = "apisix_http_status{code=\"200\",matched_uri=\"\",matched_host=\"\",route=\"slow\",service=\"\",consumer=\"\",node=\"\"}";
    assert_eq!(metric(&apisix, status), 1.0);
    assert_eq!(metric(&apisix, "apisix_http_requests_total"), 3.0);
    let latency =
        "apisix_http_latency_count{type=\"upstream\",route=\"slow\",service=\"\",consumer=\"\",node=\"\"}";
    assert_eq!(metric(&apisix, latency), 1.0);
}

#[test]
fn the_log_level_changes_at_run_time_and_its_lines_are_json_where_asked() {
    let gateway = gateway_with(&["--log-format", "json", "--log", "warn"]);
    assert_eq!(gateway.ctl("log level").trim(), "warn");
    assert!(gateway.ctl("log level =nonsense=").starts_with("error:"));
    assert!(gateway.ctl("log level info,ringway_dataplane=debug").starts_with("logging"));
    assert_eq!(gateway.ctl("log level").trim(), "info,ringway_dataplane=debug");
    assert!(gateway.ctl("log reopen").starts_with("error: there is no access log"));
    for what in ["connections", "errors", "limits"] {
        assert!(!gateway.ctl_json(&format!("show {what}")).is_null());
    }
}

/// Every name that the alerts and the dashboard use is one of this page, but for those of the control plane's, whose test looks for them.
fn used_names_exist(page: &str) {
    let there: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for file in ["../tuning/prometheus/ringway.rules.yml", "../tuning/grafana/ringway.json"] {
        let text = std::fs::read_to_string(file).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let own: BTreeSet<&str> = words
            .filter(|word| word.starts_with("ringway_") && !word.starts_with("ringway_propagation_"))
            .filter(|word| !word.starts_with("ringway_controlplane_") || word.contains("silence"))
            .collect();
        assert!(own.len() > 10, "{file}: {own:?}");
        for name in own {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(there.contains(family.unwrap_or(name)), "{file} uses {name}, which is not there");
        }
    }
    let dashboard = std::fs::read_to_string("../tuning/grafana/ringway.json").unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 20);
}

#[test]
fn both_processes_of_an_upgrade_append_to_one_file() {
    let (gateway, folder) = gateway_that_logs(&[]);
    let path = folder.path().join("access.log");
    get(&gateway, "/fast");
    lines(&path, 1);
    let said = gateway.ctl("upgrade");
    assert!(said.starts_with("upgraded"), "{said}");
    assert!(get(&gateway, "/fast").starts_with("HTTP/1.1 200"));
    for line in lines(&path, 2) {
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["status"], 200);
    }
    // The successor is nobody's child here.
    gateway.ctl("shutdown");
}
