//! `ringway top` at a terminal of its own (script(1) makes one), and for scripts.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stand::Stand;

#[test]
fn top_draws_on_a_terminal_hears_keys_and_gives_it_back() {
    let mut stand = Stand::whole();
    let node = stand.backend("blue");
    stand.cluster.sql().run(&format!(
        "insert into ringway.resource (kind, id, spec) values ('upstreams', 'shop', '{{\"nodes\": {{\"{node}\": 1}}}}')"
    ));
    stand.wait_for_every_core(1);
    let ringway = stand.tool("control", &[]);
    let line = format!("stty cols 100 rows 30; exec '{}' top -i 0.2", ringway.get_program().display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    for (name, value) in ringway.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1)");
    let (mut keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = Vec::new();
    let mut until = |word: &str| {
        let mut bytes = [0; 4_096];
        while !String::from_utf8_lossy(&text).contains(word) {
            let read = out.read(&mut bytes).unwrap();
            assert!(read > 0, "it ended without {word:?}: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&bytes[..read]);
        }
        text.clear();
    };
    until("\u{1b}[?1049h");
    until("upstreams/shop");
    keys.write_all(b"s").unwrap();
    until("requests");
    keys.write_all(b"p").unwrap();
    until("paused");
    keys.write_all(b"q").unwrap();
    until("\u{1b}[?1049l");
    drop(keys);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn top_ends_with_its_terminal() {
    let stand = Stand::whole();
    let ringway = stand.tool("control", &[]);
    let line = format!("echo pid=$$.; exec '{}' top -i 0.2", ringway.get_program().display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm-256color");
    for (name, value) in ringway.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1)");
    let (mut out, mut text) = (child.stdout.take().unwrap(), String::new());
    let mut bytes = [0; 4_096];
    while !text.contains("[?1049h") {
        let read = out.read(&mut bytes).unwrap();
        assert!(read > 0, "it ended early: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    let pid = text.split_once("pid=").and_then(|(_, rest)| rest.split_once('.')).unwrap().0.to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::path::Path::new("/proc").join(&pid).exists() {
        assert!(Instant::now() < deadline, "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn top_tells_scripts_the_same() {
    let mut stand = Stand::whole();
    let node = stand.backend("blue");
    stand.cluster.sql().run(&format!(
        "insert into ringway.resource (kind, id, spec) values ('upstreams', 'shop', '{{\"nodes\": {{\"{node}\": 1}}}}'), ('routes', 'r', '{{\"uri\": \"/\", \"upstream_id\": \"shop\"}}')"
    ));
    stand.wait_for_every_core(1);
    let mut client = stand.client();
    (0..20).for_each(|_| assert_eq!(client.get("any", "/").status, 200));
    let (code, text) = stand.ringway(&["top", "--once", "--json", "-i", "0.2"]);
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((code, document["verdict"].as_str()), (0, Some("in step")), "{text}");
    assert_eq!(document["requests_per_s"], 0.0, "{text}");
    assert_eq!(document["nodes"][0]["requests"], 20, "{text}");
    assert_eq!(document["nodes"][0]["failures"], 0, "{text}");
    assert!(document["last_change"]["stages_us"]["last_core"].is_u64(), "{text}");
    assert!(document["cores"][0]["busy_percent"].is_number(), "{text}");
    let (code, text) = stand.ringway(&["top", "--once", "-i", "0.2"]);
    assert!(code == 0 && text.contains("upstreams/shop") && text.contains("in step"), "{text}");
    let (code, text) = stand.ringway(&["top"]);
    assert!(code == 1 && text.contains("no terminal") && text.contains("--once"), "{text}");
    stand.kill_data();
    let (code, text) = stand.ringway(&["top", "--once", "-i", "0.2"]);
    assert!(code == 1 && text.contains("is not running"), "{text}");
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().display().to_string();
    for arguments in [
        &["top", "--once", "-i", "9e9", "--json"][..],
        &["ctl", "--dir", &dir, "show", "info", "--json"],
        &["drain", "--json", "--dir", &dir],
        &["explain", "GET", "a", "/", "--json", "--dir", &dir],
        &["import", "nginx", "/nonexistent", "--json"],
        &["validate", "/nonexistent", "--json"],
        &["get", "routes", "--json", "--dir", &dir, "--server", "http://127.0.0.1:1"],
        &["no-such-command", "--json"],
    ] {
        let output =
            Command::new(crate::stand::executables().join("ringway")).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        let document: Value = serde_json::from_str(text.trim())
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"));
        assert!(document["error"].is_string() || document["faults"].is_array(), "{arguments:?}: {text}");
    }
}

#[test]
fn an_import_says_by_its_exit_code_whether_something_was_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (dir.path().join("nginx.conf"), dir.path().join("out.yaml"));
    let import = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(crate::stand::executables().join("ringway"));
        command.args(["import", "nginx"]).arg(&config).arg("-o").arg(&out);
        let output = command.output().unwrap();
        let judged = Command::new(command.get_program()).arg("validate").arg(&out).output().unwrap();
        assert_eq!(judged.status.code(), Some(0), "{judged:?}");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let whole = "server { server_name a.b; location / { proxy_pass http://127.0.0.1:1; } }";
    assert_eq!(import(whole), (Some(0), "2 objects written, 0 things left out\n".to_owned()));
    let (code, told) = import(&whole.replace("location", "gzip on; location"));
    assert_eq!(code, Some(3), "{told}");
    assert!(
        told.contains("nginx.conf:1: gzip on: has no counterpart") && told.ends_with("1 thing left out\n"),
        "{told}"
    );
}
