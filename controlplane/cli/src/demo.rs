//! The demonstration backends of `ringway up`: small HTTP/1.1 servers that name themselves in JSON.
//!
//! One thread a connection, blocking, because they exist to be read and to answer correctly: keep-alive, HEAD,
//! `Content-Length` and chunked request bodies (RFC 9112 sections 6 and 7), `Expect: 100-continue`. They store
//! nothing, resolve nothing and read no file. Every size has a limit; what passes it is answered 4xx and closed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

/// Connections of one backend; more are closed at once.
const CONNECTIONS_MAX: usize = 4_096;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a chunk-size line with its extensions.
const CHUNK_LINE_BYTES_MAX: u64 = 4_096;
/// A connection's thread needs little.
const STACK_BYTES: usize = 256 * 1024;

/// A backend that answers until the process ends.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Its name, which it answers with.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Backend {
    /// Listens on the first address that is free and serves from then on.
    pub(crate) fn start(name: &'static str, addrs: &[SocketAddr]) -> std::io::Result<Backend> {
        let listener = TcpListener::bind(addrs)?;
        let addr = listener.local_addr()?;
        std::thread::Builder::new().name(format!("demo-{name}")).spawn(move || serve(&listener, name))?;
        Ok(Backend { name, addr })
    }
}

/// Serves for ever.
pub(crate) fn serve(listener: &TcpListener, name: &str) {
    let open = Arc::new(AtomicUsize::new(0));
    let name: Arc<str> = name.into();
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, most likely; turning at full speed would not free one.
            std::thread::sleep(std::time::Duration::from_millis(50));
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (gauge, name) = (Arc::clone(&open), Arc::clone(&name));
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let _ = connection(stream, &name);
            gauge.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn connection(stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = match Request::read(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(Bad::Io(error)) => return Err(error),
            Err(Bad::Request(status)) => return refuse(&mut writer, status),
        };
        if request.expects_continue && request.body != Body::None {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body_bytes = match drain(&mut reader, request.body) {
            Ok(bytes) => bytes,
            Err(Bad::Io(error)) => return Err(error),
            Err(Bad::Request(status)) => return refuse(&mut writer, status),
        };
        writer.write_all(&request.answer(name, body_bytes))?;
        if !request.keep_alive {
            return Ok(());
        }
    }
}

fn refuse(writer: &mut TcpStream, status: &str) -> std::io::Result<()> {
    writer
        .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Length(u64),
    Chunked,
}

enum Bad {
    Io(std::io::Error),
    Request(&'static str),
}

impl From<std::io::Error> for Bad {
    fn from(error: std::io::Error) -> Bad {
        Bad::Io(error)
    }
}

const BAD_REQUEST: Bad = Bad::Request("400 Bad Request");

struct Request {
    method: String,
    target: String,
    http_1_0: bool,
    keep_alive: bool,
    expects_continue: bool,
    body: Body,
    fields: Vec<(String, String)>,
}

impl Request {
    /// `None` when the client closed between requests.
    fn read(reader: &mut impl BufRead) -> Result<Option<Request>, Bad> {
        let mut head = reader.take(HEAD_BYTES_MAX);
        let mut line = read_line(&mut head)?;
        if line.as_deref() == Some("") {
            // RFC 9112 section 2.2: an empty line before the request line is ignored.
            line = read_line(&mut head)?;
        }
        let Some(line) = line else { return Ok(None) };
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(BAD_REQUEST);
        };
        let http_1_0 = match version {
            "HTTP/1.1" => false,
            "HTTP/1.0" => true,
            _ => return Err(Bad::Request("505 HTTP Version Not Supported")),
        };
        let mut request = Request {
            method: method.to_owned(),
            target: target.to_owned(),
            http_1_0,
            keep_alive: !http_1_0,
            expects_continue: false,
            body: Body::None,
            fields: Vec::new(),
        };
        loop {
            let Some(line) = read_line(&mut head)? else {
                return Err(Bad::Request("431 Request Header Fields Too Large"));
            };
            if line.is_empty() {
                return Ok(Some(request));
            }
            let Some((name, value)) = line.split_once(':') else { return Err(BAD_REQUEST) };
            request.field(name.to_ascii_lowercase(), value.trim().to_owned())?;
        }
    }

    fn field(&mut self, name: String, value: String) -> Result<(), Bad> {
        match name.as_str() {
            "content-length" => {
                let length = value.parse().map_err(|_| BAD_REQUEST)?;
                if self.body != Body::None {
                    return Err(BAD_REQUEST);
                }
                self.body = if length == 0 { Body::None } else { Body::Length(length) };
            }
            "transfer-encoding" => {
                if self.body != Body::None || !value.eq_ignore_ascii_case("chunked") {
                    return Err(BAD_REQUEST);
                }
                self.body = Body::Chunked;
            }
            "connection" => {
                for option in value.split(',').map(str::trim) {
                    if option.eq_ignore_ascii_case("close") {
                        self.keep_alive = false;
                    } else if self.http_1_0 && option.eq_ignore_ascii_case("keep-alive") {
                        self.keep_alive = true;
                    }
                }
            }
            "expect" => self.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
        self.fields.push((name, value));
        Ok(())
    }

    fn answer(&self, backend: &str, body_bytes: u64) -> Vec<u8> {
        let headers: serde_json::Map<_, _> =
            self.fields.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let told = json!({
            "backend": backend,
            "method": self.method,
            "path": self.target,
            "headers": headers,
            "body_bytes": body_bytes,
        });
        let body = format!("{told}\n");
        let connection = match (self.keep_alive, self.http_1_0) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Backend: {backend}\r\nContent-Length: {}\r\n{connection}\r\n",
            body.len()
        );
        if self.method != "HEAD" {
            answer.push_str(&body);
        }
        answer.into_bytes()
    }
}

/// One line without its end; `None` at the end of the stream or of the limit.
fn read_line(reader: &mut impl BufRead) -> Result<Option<String>, Bad> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| BAD_REQUEST)
}

fn drain(reader: &mut impl BufRead, body: Body) -> Result<u64, Bad> {
    match body {
        Body::None => Ok(0),
        Body::Length(length) => skip(reader, length).map(|()| length),
        Body::Chunked => {
            let mut total = 0_u64;
            loop {
                let line = read_line(&mut reader.take(CHUNK_LINE_BYTES_MAX))?.ok_or(BAD_REQUEST)?;
                let size = line.split(';').next().unwrap_or_default().trim_end();
                let size = u64::from_str_radix(size, 16).map_err(|_| BAD_REQUEST)?;
                if size == 0 {
                    break;
                }
                skip(reader, size)?;
                if read_line(&mut reader.take(2))?.as_deref() != Some("") {
                    return Err(BAD_REQUEST);
                }
                total = total.saturating_add(size);
            }
            let mut trailer = reader.take(HEAD_BYTES_MAX);
            while !read_line(&mut trailer)?.ok_or(BAD_REQUEST)?.is_empty() {}
            Ok(total)
        }
    }
}

fn skip(reader: &mut impl BufRead, bytes: u64) -> Result<(), Bad> {
    let skipped = std::io::copy(&mut reader.take(bytes), &mut std::io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(BAD_REQUEST) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn talk(bytes: &[u8]) -> String {
        let backend = Backend::start("blue", &[SocketAddr::from(([127, 0, 0, 1], 0))]).unwrap();
        let mut stream = TcpStream::connect(backend.addr).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn bodies_of_both_framings_are_read_to_their_end_before_the_next_request() {
        let answer = talk(
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
              POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n\
              GET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
        for told in [r#""body_bytes":5"#, r#""body_bytes":3"#, r#""path":"/c""#, r#""backend":"blue""#] {
            assert!(answer.contains(told), "{told} in {answer}");
        }
    }

    #[test]
    fn head_has_a_length_and_no_body() {
        let answer = talk(b"HEAD / HTTP/1.0\r\n\r\n");
        assert!(answer.contains("Content-Length: ") && answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[test]
    fn what_is_not_http_is_refused_and_closed() {
        for bytes in [
            &b"hello\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        ] {
            let answer = talk(bytes);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
    }
}
