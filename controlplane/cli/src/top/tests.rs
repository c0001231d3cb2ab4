//! The screen as a terminal would show it, and what keys do.

use std::time::Instant;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::reading::tests::sample;
use super::*;

/// A view after three samples.
fn app() -> App {
    let begun = Instant::now();
    let mut app = App::new();
    for (at_ms, requests) in [(1_000, 1_000), (2_000, 3_000), (4_000, 7_000)] {
        assert!(app.take(sample(begun, 7, at_ms, requests)));
    }
    app
}

fn shown(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| app.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect()
}

fn press(app: &mut App, code: KeyCode) -> bool {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn a_wide_terminal_shows_everything() {
    let lines = shown(&mut app(), 110, 20);
    assert_eq!(
        lines,
        [
            "ringway edge-1  in step  revision 41, 12 routes  0.1.0, up 3 h",
            "",
            "requests 4,000/s  ██  2xx 3,600  3xx 0  4xx 400  5xx 0  retries 0  connections 65 (6 busy)",
            "request   p50 412 µs  p90 930 µs  p99 2.14 ms  p99.9 8.03 ms  (last 10s)",
            "upstream  p50 380 µs  p90 850 µs  p99 2.00 ms  p99.9 7.80 ms  (last 10s)",
            "change    3 min ago  received 90 µs  decoded 140 µs  compiled 900 µs  first core 980 µs  last core 1.24 ms",
            "",
            "CORE  CPU  BUSY              REQ/S  CONNS  OPEN  REVISION  LOOP",
            "   0    0  ████▌·····  45 %  2,000     32     3        41  turned 1 ms ago",
            "   1    1  ▌·········   5 %  2,000     33     3        41  turned 1 ms ago",
            "",
            "UPSTREAM        NODE           STATE      WEIGHT  OPEN  REQ/S  FAIL/S  FAILED  WHY",
            "services/api    10.0.1.9:443   drain           1     2    500       0       1",
            "upstreams/shop  10.0.0.5:8080  ready           1     2  1,000       0       0",
            "upstreams/shop  10.0.0.7:8080  unhealthy       1     2     20      20      70  failed connections of probes",
            "",
            "",
            "",
            "",
            " q  quit   p  pause   s  sort: name   ↑↓  scroll",
        ]
    );
}

#[test]
fn a_narrow_terminal_keeps_what_matters_most() {
    let lines = shown(&mut app(), 44, 30);
    let text = lines.join("\n");
    assert!(lines.iter().all(|line| line.chars().count() <= 44));
    for word in ["in step", "4,000/s", "p99.9 8.03 ms", "unhealthy", "10.0.0.7:8080", "CORE"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    for word in ["WEIGHT", "turned"] {
        assert!(!text.contains(word), "{word} in\n{text}");
    }
    // Nothing is too small to draw on.
    for (width, height) in [(1, 1), (5, 3), (20, 4), (300, 2)] {
        shown(&mut app(), width, height);
    }
}

#[test]
fn keys_sort_pause_scroll_and_end() {
    let mut app = app();
    let first_node = |app: &mut App| {
        let lines = shown(app, 110, 20);
        let title = lines.iter().position(|line| line.starts_with("UPSTREAM")).unwrap();
        lines[title + 1].split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(first_node(&mut app), "10.0.1.9:443");
    assert!(press(&mut app, KeyCode::Char('s')));
    assert_eq!(first_node(&mut app), "10.0.0.5:8080", "by requests");
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(first_node(&mut app), "10.0.0.7:8080", "by failures");

    press(&mut app, KeyCode::Char('p'));
    assert!(!app.take(sample(Instant::now(), 7, 5_000, 90_000)), "it is drawn while it is paused");
    let text = shown(&mut app, 110, 20).join("\n");
    assert!(text.contains("4,000/s") && text.contains("paused"), "{text}");
    press(&mut app, KeyCode::Char(' '));
    assert!(app.take(sample(Instant::now(), 7, 6_000, 90_000)));

    let before = shown(&mut app, 110, 12);
    press(&mut app, KeyCode::End);
    let after = shown(&mut app, 110, 12);
    assert_ne!(before, after);
    assert!(after.iter().any(|line| line.contains("upstreams/shop")), "{after:?}");
    (0..9).for_each(|_| assert!(press(&mut app, KeyCode::Down)));
    assert_eq!(shown(&mut app, 110, 12), after, "it ends at the last line");
    press(&mut app, KeyCode::Home);
    assert_eq!(shown(&mut app, 110, 12), before);

    assert!(!press(&mut app, KeyCode::Char('q')) && !press(&mut app, KeyCode::Esc));
    assert!(!app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(press(&mut app, KeyCode::Char('x')));
}

#[test]
fn what_is_wrong_stands_at_the_top() {
    let mut app = App::new();
    let mut now = sample(Instant::now(), 7, 1_000, 10);
    now.report.control = Err("is the control plane running?".to_owned());
    now.report.cores[1]["dead"] = serde_json::json!(true);
    app.take(now);
    let text = shown(&mut app, 90, 24);
    assert!(text[0].contains("degraded"), "{text:?}");
    assert_eq!(text[1], "! is the control plane running?");
    assert!(text[2].contains("core 1 is dead"), "{text:?}");
    assert!(text.iter().any(|line| line.contains("dead") && line.starts_with("   1")), "{text:?}");
}
