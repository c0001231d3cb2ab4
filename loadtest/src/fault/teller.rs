//! The backend of the route that every change rewrites: it answers with the Host field that it received, which the
//! configuration sets, so that each answer tells which change its core had applied.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::http::HEAD_BYTES_MAX;

/// Starts it; it ends with this program. One thread a connection: only the gateway connects, a few times.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("teller".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the gateway's business.
            let _ = std::thread::Builder::new().spawn(move || serve(stream));
        }
    })?;
    Ok(address)
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
        head.extend_from_slice(bytes.get(..count).unwrap_or_default());
        // Requests here have no body and are not pipelined.
        if head.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head);
            let host = text
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("host"))
                .map_or("", |(_, value)| value.trim());
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{host}", host.len());
            stream.write_all(answer.as_bytes())?;
            head.clear();
        }
    }
}
