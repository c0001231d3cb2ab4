//! A DNS server of its own for the data plane, which a scenario can break: on a loopback address, seen by nobody else.
//!
//! It answers for the backends' names alone. The data plane gets a mount namespace in which /etc/resolv.conf names this server, because the
//! system's resolver cannot be told otherwise; that needs root.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::geteuid;

const DOMAIN: &str = "fault.test";
const PORT: u16 = 53;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const HEADER_BYTES: usize = 12;
const TYPE_A: [u8; 4] = [0, 1, 0, 1];
const TTL_S: u32 = 1;

/// What it does with questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Answers = 0,
    Silent = 1,
    /// SERVFAIL.
    Fails = 2,
    /// NXDOMAIN.
    Denies = 3,
}

#[derive(Debug)]
pub(crate) struct Dns {
    mood: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    resolv_conf: PathBuf,
}

/// Why this machine cannot have one.
pub(crate) fn missing() -> Option<String> {
    if !geteuid().is_root() {
        return Some("needs root, to give the data plane a DNS server of its own".to_owned());
    }
    if UdpSocket::bind(address()).is_err() {
        return Some(format!("{} cannot be bound here", address()));
    }
    let script = "mount --bind /dev/null /etc/resolv.conf";
    let mut tried = Command::new("unshare");
    tried.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    let tried = tried.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let works = tried.is_ok_and(|status| status.success());
    (!works).then(|| "a mount namespace with another /etc/resolv.conf cannot be made here".to_owned())
}

/// Another one for each run.
fn address() -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, 83, high, low.clamp(1, 254)), PORT))
}

impl Dns {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let socket = UdpSocket::bind(address()).with_context(|| format!("cannot bind {}", address()))?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let resolv_conf = folder.join("resolv.conf");
        let text = format!("nameserver {}\noptions timeout:1 attempts:1\n", address().ip());
        std::fs::write(&resolv_conf, text)?;
        let (mood, stop) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::Builder::new().name("dns".into()).spawn({
            let (mood, stop) = (Arc::clone(&mood), Arc::clone(&stop));
            move || serve(&socket, &mood, &stop)
        })?;
        Ok(Self { mood, stop, thread: Some(thread), resolv_conf })
    }

    /// The name of a backend, which stands for 127.0.0.1.
    pub(crate) fn name(number: usize) -> String {
        format!("node-{number}.{DOMAIN}")
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }

    /// The command line that starts a program which asks this server.
    pub(crate) fn launch(&self, program: &Path, arguments: &[String]) -> (PathBuf, Vec<String>) {
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let resolv_conf = self.resolv_conf.display().to_string();
        let own = ["--mount", "--propagation", "private", "sh", "-c", script, &resolv_conf];
        let program = program.display().to_string();
        let all = own.into_iter().chain([&*program]).map(str::to_owned).chain(arguments.iter().cloned());
        (PathBuf::from("/usr/bin/unshare"), all.collect())
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, mood: &AtomicU8, stop: &AtomicBool) {
    let mut buffer = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        // A timeout is for looking at `stop`.
        let Ok((bytes, from)) = socket.recv_from(&mut buffer) else { continue };
        let question = buffer.get(..bytes).unwrap_or_default();
        if let Some(reply) = reply(question, mood.load(Ordering::Relaxed)) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// RFC 1035 section 4: the question with the answer's flags, and for an A question one address.
fn reply(question: &[u8], mood: u8) -> Option<Vec<u8>> {
    let code = match mood {
        mood if mood == Mood::Silent as u8 => return None,
        mood if mood == Mood::Fails as u8 => 2,
        mood if mood == Mood::Denies as u8 => 3,
        _ => 0,
    };
    let body = question.get(HEADER_BYTES..)?;
    let mut at = 0;
    while let Some(length) = body.get(at).filter(|length| **length != 0) {
        at += 1 + usize::from(*length);
    }
    // Behind the name's end: type and class.
    let asked = body.get(..at + 5)?;
    let is_a = asked.ends_with(&TYPE_A) && code == 0;
    let mut reply = question.get(..2)?.to_vec();
    reply.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    reply.extend_from_slice(asked);
    if is_a {
        reply.extend_from_slice(&[0xc0, HEADER_BYTES as u8]);
        reply.extend_from_slice(&TYPE_A);
        reply.extend_from_slice(&TTL_S.to_be_bytes());
        reply.extend_from_slice(&[0, 4, 127, 0, 0, 1]);
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_for_addresses_are_answered_as_the_mood_is() {
        let mut question = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend_from_slice(b"\x06node-0\x05fault\x04test\x00\x00\x01\x00\x01");
        let answer = reply(&question, Mood::Answers as u8).unwrap();
        assert!(answer.starts_with(&[7, 9, 0x81, 0x80]) && answer.ends_with(&[127, 0, 0, 1]));
        assert_eq!(reply(&question, Mood::Silent as u8), None);
        assert_eq!(reply(&question, Mood::Fails as u8).unwrap()[3], 0x82);
        let end = question.len();
        question[end - 3] = 28;
        let none = reply(&question, Mood::Answers as u8).unwrap();
        assert_eq!((none.len(), none[7]), (question.len(), 0), "no IPv6 address");
        assert_eq!(reply(&question[..20], 0), None);
    }
}
