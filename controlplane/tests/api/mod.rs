//! A client of the Admin API, and a control plane that has one: each with its own key file and a port that the kernel chose.
#![allow(dead_code, unreachable_pub, reason = "each test crate includes this file and uses a part of it")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Program, WAIT_MAX};

/// The key of role admin.
pub const ADMIN: &str = "the-key-of-the-tests-00";
/// The key of role viewer.
pub const VIEWER: &str = "a-key-that-only-reads-00";

/// One answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Value,
    pub text: String,
}

/// Where the API is.
#[derive(Debug, Clone, Copy)]
pub struct Api(SocketAddr);

impl Reply {
    /// A header field's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The error's text.
    pub fn error(&self) -> &str {
        self.body["error_msg"].as_str().unwrap_or("(no error_msg)")
    }
}

/// Starts a control plane with the Admin API on.
#[track_caller]
pub fn start(directory: &Path, node: &str, arguments: &[&str]) -> (Program, Api) {
    let keys = directory.join("keys");
    std::fs::write(&keys, format!("boss admin {ADMIN}\nguest viewer {VIEWER}\n")).expect("keys");
    let keys = keys.display().to_string();
    let own = ["--admin-listen", "127.0.0.1:0", "--admin-key-file", &keys];
    let mut program = Program::start(directory, node, &[arguments, &own].concat());
    program.wait_log("the Admin API listens");
    let log = program.log();
    let line = log.lines().rev().find(|line| line.contains("the Admin API listens")).expect("line");
    let address = line.rsplit_once("address=").expect("address").1.trim();
    (program, Api(address.parse().expect("address")))
}

impl Api {
    /// Where it listens.
    pub fn address(self) -> SocketAddr {
        self.0
    }

    /// A request with the admin's key.
    #[track_caller]
    pub fn ask(self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.with(method, path, body, &[("X-API-KEY", ADMIN)])
    }

    /// A request with these fields.
    #[track_caller]
    pub fn with(self, method: &str, path: &str, body: Option<&Value>, fields: &[(&str, &str)]) -> Reply {
        let body = body.map(ToString::to_string).unwrap_or_default();
        self.raw(method, path, body.as_bytes(), fields)
    }

    /// A request with any bytes as its body.
    #[track_caller]
    pub fn raw(self, method: &str, path: &str, body: &[u8], fields: &[(&str, &str)]) -> Reply {
        let mut stream = TcpStream::connect(self.0).expect("connect");
        stream.set_read_timeout(Some(WAIT_MAX)).expect("timeout");
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).expect("write");
        // A refusal may come before all of the body was taken.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("status");
        let document = serde_json::from_str(body).unwrap_or(Value::Null);
        Reply { status, head: head.to_owned(), body: document, text: body.to_owned() }
    }

    /// Asks until the answer is as wanted.
    #[track_caller]
    pub fn until(self, method: &str, path: &str, wanted: impl Fn(&Reply) -> bool) -> Reply {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let reply = self.ask(method, path, None);
            if wanted(&reply) {
                return reply;
            }
            assert!(Instant::now() < deadline, "{method} {path}: {reply:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
