//! What a data plane tells of its requests: latency, the access log, metrics.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Write};

use serde_json::json;
use stand::{Gateway, PATIENCE, named_node, node, read_message_text, wait_until};

const SLOW: std::time::Duration = std::time::Duration::from_millis(60);

/// A configuration with one route to a node that answers at once and one to a node that takes its time.
fn gateway_with_two_routes() -> Gateway {
    let gateway = Gateway::start();
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
