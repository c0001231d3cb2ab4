//! A headless Chromium that a test drives, over a pair of pipes in Chromium's DevTools protocol (`--remote-debugging-pipe`: JSON texts
//! with a zero byte after each). No port, no other program between.
//!
//! It may reach nothing but this host. Whatever the page complains about (a refused script, an error, a failed request) is
//! collected, so that a test can say that there was nothing.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde_json::{Value, json};

use crate::stand::{DEADLINE, wait_until};

/// What Chromium is called where it is packaged.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

pub(crate) struct Browser {
    child: Child,
    orders: File,
    told: Receiver<Value>,
    last_id: u64,
    session: Option<String>,
    troubles: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None`, and a line that says so, where there is no Chromium.
    pub(crate) fn start() -> Option<Browser> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path)
            .flat_map(|folder| NAMES.map(|name| folder.join(name)))
            .find(|program| program.is_file());
        let Some(program) = found else {
            eprintln!(
                "SKIPPED: there is no Chromium on PATH; install it with `apt-get install chromium` to try the dashboard"
            );
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let pipe = |name: &str| -> PathBuf {
            let path = profile.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let (orders, told) = (pipe("orders"), pipe("told"));
        let child = Command::new("sh")
            .args(["-c", "orders=$1 told=$2; shift 2; exec \"$@\" 3<\"$orders\" 4>\"$told\"", "sh"])
            .args([&orders, &told, &program])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1400,1000"])
            .arg(format!("--user-data-dir={}", profile.path().join("data").display()))
            .arg("about:blank")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(profile.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let orders = File::options().write(true).open(orders).unwrap();
        let told = listen(File::open(told).unwrap());
        let mut browser = Browser {
            child,
            orders,
            told,
            last_id: 0,
            session: None,
            troubles: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(ToOwned::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    pub(crate) fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
        self.wait("document.readyState === 'complete'");
    }

    /// The value of an expression in the page.
    pub(crate) fn js(&mut self, expression: &str) -> Value {
        let wanted = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", wanted);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Until an expression is true.
    pub(crate) fn wait(&mut self, expression: &str) {
        wait_until(&format!("{expression} in the page"), || (self.js(expression) == true).then_some(()));
    }

    /// Types like a person into what the selector names.
    pub(crate) fn type_into(&mut self, selector: &str, text: &str) {
        let there = self.js(&format!("(() => {{ const one = document.querySelector({selector:?}); one.focus(); one.select(); return document.activeElement === one; }})()"));
        assert_eq!(there, true, "{selector} cannot be typed into");
        self.call("Input.insertText", json!({"text": text}));
    }

    pub(crate) fn press_enter(&mut self) {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
            self.call("Input.dispatchKeyEvent", key);
        }
    }

    /// As a page of this width, in light or dark.
    pub(crate) fn look(&mut self, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// A picture of the whole page.
    pub(crate) fn picture(&mut self, path: &Path) {
        let shot =
            self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// What the page complained about so far.
    pub(crate) fn troubles(&mut self) -> Vec<String> {
        self.js("0");
        std::mem::take(&mut self.troubles)
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut order = json!({"id": self.last_id, "method": method});
        order["params"] = parameters;
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).unwrap();
        loop {
            let told = self.told.recv_timeout(DEADLINE);
            let told = told
                .unwrap_or_else(|error| panic!("{method}: Chromium says nothing ({error}): {}", self.log()));
            if told["id"] == self.last_id {
                assert!(told.get("error").is_none(), "{method}: {told}");
                return told["result"].clone();
            }
            self.note(&told);
        }
    }

    fn note(&mut self, event: &Value) {
        let details = &event["params"];
        let trouble = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => details["type"] == "error" || details["type"] == "warning",
            "Log.entryAdded" => details["entry"]["level"] == "error",
            "Page.javascriptDialogOpening" => true,
            _ => false,
        };
        if trouble {
            self.troubles.push(event.to_string());
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self._profile.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Browser {
    /// With the processes that it has started: they would write to the profile while it is being removed.
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        let deadline = Instant::now() + DEADLINE;
        // Until nobody of the group is left that could be told anything.
        while group.is_some_and(|group| test_kill_process_group(group).is_ok()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn listen(told: File) -> Receiver<Value> {
    let (give, take) = channel();
    std::thread::spawn(move || {
        for text in BufReader::new(told).split(0).map_while(Result::ok) {
            let Ok(value) = serde_json::from_slice(&text) else { break };
            if give.send(value).is_err() {
                break;
            }
        }
    });
    take
}
