//! One probe of one node: a connection, or a GET, over TLS where that is asked for, and the status of its answer.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_engine::upstream::{Address, Finding, HostRule, Lack, Probe, ProbeFault, Stage};
use ringway_snapshot::upstream::{CheckKind, tls_name};

use super::tls::{Session, Trust};
use crate::io::{Deadlines, Socket};
use crate::pool::lacks_descriptor;

/// An answer's status must stand within so many bytes.
const STATUS_LINE_BYTES_MAX: usize = 1_024;
const BUFFER_BYTES: usize = 4_096;

/// Why a probe ends without a status.
enum End {
    Found(Finding),
    Io(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Io(error)
    }
}

impl From<ProbeFault> for End {
    fn from(fault: ProbeFault) -> End {
        End::Found(Finding::Failed(fault))
    }
}

impl From<Lack> for End {
    fn from(lack: Lack) -> End {
        End::Found(Finding::Unmade(lack))
    }
}

/// Probes a node, within the time that its checks give.
pub(super) async fn carry_out(probe: &Probe, trust: &RefCell<Trust>, deadlines: &Rc<Deadlines>) -> Finding {
    let active = &probe.checks.active;
    let wait = Duration::try_from_secs_f64(active.timeout).unwrap_or(Duration::from_secs(1));
    let mut attempt = Attempt { probe, deadlines, until_ms: deadlines.until_ms(wait), stage: Stage::Connect };
    match attempt.run(trust).await {
        Ok(finding) | Err(End::Found(finding)) => finding,
        Err(End::Io(error)) if error.kind() == io::ErrorKind::TimedOut => Finding::TimedOut(attempt.stage),
        // What this process lacks is not the node's fault.
        Err(End::Io(error)) if lacks_descriptor(&error) => Finding::Unmade(Lack::Descriptor),
        Err(End::Io(_)) if attempt.stage == Stage::Connect => Finding::Failed(ProbeFault::Connect),
        Err(End::Io(_)) => Finding::Failed(ProbeFault::Broken),
    }
}

/// One probe under way.
struct Attempt<'a> {
    probe: &'a Probe,
    deadlines: &'a Rc<Deadlines>,
    until_ms: u64,
    stage: Stage,
}

impl Attempt<'_> {
    async fn run(&mut self, trust: &RefCell<Trust>) -> Result<Finding, End> {
        let active = &self.probe.checks.active;
        let session = match active.kind {
            CheckKind::Https => Some(self.session(&mut trust.borrow_mut())?),
            CheckKind::Http | CheckKind::Tcp => None,
        };
        let address = match (&self.probe.address, active.port) {
            (Address::Tcp(address), Some(port)) => &SocketAddr::new(address.ip(), port).into(),
            (address, _) => address,
        };
        let mut socket = Socket::connect(address, self.left()?, self.deadlines).await?;
        match (active.kind, session) {
            (CheckKind::Tcp, _) => Ok(Finding::Connected),
            (_, Some(session)) => self.ask_over_tls(&mut socket, session).await,
            (_, None) => self.ask(&mut socket).await,
        }
    }

    fn left(&self) -> io::Result<Duration> {
        self.deadlines.left(self.until_ms).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    async fn ask(&mut self, socket: &mut Socket) -> Result<Finding, End> {
        self.stage = Stage::Answer;
        let request = request(self.probe);
        let end = request.len();
        socket.writer.write_all(request, 0..end, self.left()?).await.result?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        loop {
            let read = socket.reader.read(buffer, self.left()?).await;
            buffer = read.buffer;
            if read.result? == 0 {
                return Err(ProbeFault::Broken.into());
            }
            if let Some(finding) = judge(&buffer) {
                return Ok(finding);
            }
        }
    }

    async fn ask_over_tls(&mut self, socket: &mut Socket, mut session: Session) -> Result<Finding, End> {
        self.stage = Stage::Handshake;
        session.write(&request(self.probe))?;
        let (mut buffer, mut answer) = (Vec::with_capacity(BUFFER_BYTES), Vec::new());
        let mut fault = None;
        loop {
            let bytes = session.outgoing()?;
            let end = bytes.len();
            if end > 0 {
                let written = socket.writer.write_all(bytes, 0..end, self.left()?).await;
                // That it goes no further has been found out; that the node hears why is a courtesy.
                if fault.is_none() {
                    written.result?;
                }
            }
            if let Some(fault) = fault {
                return Err(ProbeFault::into(fault));
            }
            if !session.is_shaking_hands() {
                self.stage = Stage::Answer;
            }
            let read = socket.reader.read(buffer, self.left()?).await;
            buffer = read.buffer;
            if read.result? == 0 {
                return Err(ProbeFault::Broken.into());
            }
            fault = session.incoming(&buffer, &mut answer).err();
            buffer.clear();
            if let Some(finding) = judge(&answer).filter(|_| fault.is_none()) {
                return Ok(finding);
            }
        }
    }

    fn session(&self, trust: &mut Trust) -> Result<Session, Lack> {
        let host = String::from_utf8_lossy(host(self.probe));
        let name = tls_name(&host).ok_or(Lack::Name)?;
        trust.session(name, self.probe.checks.active.https_verify_certificate)
    }
}

/// What the first bytes of an answer say, if they say anything yet.
fn judge(answer: &[u8]) -> Option<Finding> {
    let not_http = Finding::Failed(ProbeFault::NotHttp);
    match answer.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some(status(answer.get(..end).unwrap_or_default()).map_or(not_http, Finding::Status)),
        None => (answer.len() >= STATUS_LINE_BYTES_MAX).then_some(not_http),
    }
}

/// Who the node is asked as.
fn host(probe: &Probe) -> &[u8] {
    let cluster = &probe.cluster;
    let own = || cluster.endpoints.iter().find(|endpoint| endpoint.address == probe.address);
    match (&probe.checks.active.host, &cluster.host) {
        (Some(host), _) => host.as_bytes(),
        (None, HostRule::Rewrite(host)) => host,
        (None, HostRule::Pass | HostRule::Node) => own().map_or(&[][..], |endpoint| &endpoint.authority),
    }
}

fn request(probe: &Probe) -> Vec<u8> {
    let active = &probe.checks.active;
    let host = host(probe);
    let mut request = Vec::with_capacity(256);
    for part in [b"GET ", active.http_path.as_bytes(), b" HTTP/1.1\r\nHost: ", host, b"\r\n"] {
        request.extend_from_slice(part);
    }
    let names_agent =
        |line: &String| line.get(..11).is_some_and(|name| name.eq_ignore_ascii_case("user-agent:"));
    if !active.req_headers.iter().any(names_agent) {
        request.extend_from_slice(b"User-Agent: ringway-health\r\n");
    }
    for line in &active.req_headers {
        request.extend_from_slice(line.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"Connection: close\r\n\r\n");
    request
}

/// RFC 9112 section 4.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.").filter(|rest| matches!(rest, [b'0' | b'1', b' ', ..]))?;
    let digits = rest.get(2..5).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let ends = matches!(rest.get(5), None | Some(b' ' | b'\r'));
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_strictly() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r"), Some(503));
        for line in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 20",
            "HTTP/1.1 2000 x",
            "HTTP/2 200 OK",
            "SSH-2.0-x 200",
            "HTTP/1.1 2x0",
        ] {
            assert_eq!(status(line.as_bytes()), None, "{line}");
        }
    }
}
