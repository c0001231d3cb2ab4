//! One probe of one node: a connection, or a GET and the status of its answer.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_engine::upstream::{Address, Finding, HostRule, Probe};
use ringway_snapshot::upstream::CheckKind;

use crate::io::{Deadlines, Socket};

/// An answer's status must stand within so many bytes.
const STATUS_LINE_BYTES_MAX: usize = 1_024;
const BUFFER_BYTES: usize = 4_096;

/// Probes a node, within the time that its checks give.
pub(super) async fn carry_out(probe: &Probe, deadlines: &Rc<Deadlines>) -> Finding {
    let active = &probe.checks.active;
    let wait = Duration::try_from_secs_f64(active.timeout).unwrap_or(Duration::from_secs(1));
    let until_ms = deadlines.until_ms(wait);
    match attempt(probe, deadlines, until_ms).await {
        Ok(finding) => finding,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Finding::TimedOut,
        Err(_) => Finding::Failed,
    }
}

async fn attempt(probe: &Probe, deadlines: &Rc<Deadlines>, until_ms: u64) -> io::Result<Finding> {
    let active = &probe.checks.active;
    let left = || deadlines.left(until_ms).ok_or(io::ErrorKind::TimedOut);
    let address = match (&probe.address, active.port) {
        (Address::Tcp(address), Some(port)) => &SocketAddr::new(address.ip(), port).into(),
        (address, _) => address,
    };
    let mut socket = Socket::connect(address, left()?, deadlines).await?;
    if active.kind == CheckKind::Tcp {
        return Ok(Finding::Connected);
    }
    let request = request(probe);
    let end = request.len();
    socket.writer.write_all(request, 0..end, left()?).await.result?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let read = socket.reader.read(buffer, left()?).await;
        buffer = read.buffer;
        if read.result? == 0 {
            return Ok(Finding::Failed);
        }
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            return Ok(status(buffer.get(..end).unwrap_or_default()).map_or(Finding::Failed, Finding::Status));
        }
        if buffer.len() >= STATUS_LINE_BYTES_MAX {
            return Ok(Finding::Failed);
        }
    }
}

fn request(probe: &Probe) -> Vec<u8> {
    let active = &probe.checks.active;
    let cluster = &probe.cluster;
    let own = || cluster.endpoints.iter().find(|endpoint| endpoint.address == probe.address);
    let host: &[u8] = match (&active.host, &cluster.host) {
        (Some(host), _) => host.as_bytes(),
        (None, HostRule::Rewrite(host)) => host,
        (None, HostRule::Pass | HostRule::Node) => own().map_or(&[][..], |endpoint| &endpoint.authority),
    };
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
