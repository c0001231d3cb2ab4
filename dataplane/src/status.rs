//! The status endpoint: `/livez`, `/readyz` and `/metrics` (under APISIX's names with `?names=apisix`), on a port and threads of their own, so that it answers when every core
//! is busy.
//!
//! `/readyz?max_age=SECONDS` is also 503 when no control plane was heard for longer than that; so is `/readyz` with `--stale-after-s`.
//! Requests are served on in any case. One request a connection; heads are parsed by the engine. It never waits for a core.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ringway_engine::http1::{HeadLimits, Method, OwnResponse, Parse, RequestHead, encode_own_response};

use crate::state::State;
use crate::{door, metrics};

const CONNECTIONS_MAX: usize = 64;
const WAIT: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Binds the endpoint. The error says what to do.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| {
        format!("cannot listen on {address} for /livez, /readyz and /metrics: {error}; give another address with --status")
    })
}

/// Serves until the process ends or a successor does.
pub(crate) fn serve(listener: &TcpListener, state: &Arc<State>) {
    let open = Arc::new(AtomicUsize::new(0));
    while door::wait(listener, || state.life.status_door()) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Relaxed);
            continue;
        }
        let (state, open_here) = (Arc::clone(state), Arc::clone(&open));
        let spawned = std::thread::Builder::new().name("status".into()).spawn(move || {
            // A peer that breaks off is its own matter.
            let _ = answer(stream, &state);
            open_here.fetch_sub(1, Relaxed);
        });
        if spawned.is_err() {
            open.fetch_sub(1, Relaxed);
        }
    }
}

fn answer(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    let limits = HeadLimits { head_bytes_max: HEAD_BYTES_MAX, ..HeadLimits::default() };
    let mut head = RequestHead::new();
    let mut bytes = Vec::new();
    let mut out = Vec::new();
    loop {
        let mut step = [0; 2048];
        let read = stream.read(&mut step)?;
        if read == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(step.get(..read).unwrap_or_default());
        let (status, content_type, body) = match head.parse(&bytes, &limits) {
            Ok(Parse::Partial) => continue,
            Ok(Parse::Done(())) => {
                let query = head.target.query.map(|query| query.of(&bytes)).unwrap_or_default();
                page(state, head.method, head.target.path_bytes(&bytes), query)
            }
            Err(error) => (error.status(), TEXT, format!("{error}\n")),
        };
        let response = OwnResponse {
            status,
            content_type: content_type.as_bytes(),
            body: body.as_bytes(),
            is_head: head.method == Method::Head,
            ..OwnResponse::default()
        };
        encode_own_response(&response, &mut out);
        return stream.write_all(&out);
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn page(state: &State, method: Method, path: &[u8], query: &[u8]) -> (u16, &'static str, String) {
    if !matches!(method, Method::Get | Method::Head) {
        return (405, TEXT, "only GET and HEAD\n".to_owned());
    }
    match path {
        b"/livez" => match state.not_alive() {
            None => (200, TEXT, "ok\n".to_owned()),
            Some(reason) => (503, TEXT, format!("{reason}\n")),
        },
        b"/readyz" => match age_max(query) {
            Err(reason) => (400, TEXT, reason),
            Ok(asked) => {
                let age_max = asked.or(state.stale_after);
                let stale = || age_max.and_then(|age_max| state.stale(age_max));
                match state.not_ready().map(str::to_owned).or_else(stale) {
                    None => (200, TEXT, "ready\n".to_owned()),
                    Some(reason) => (503, TEXT, format!("not ready: {reason}\n")),
                }
            }
        },
        b"/metrics" if query.split(|byte| *byte == b'&').any(|pair| pair == b"names=apisix") => {
            (200, PROMETHEUS, metrics::apisix::page(state))
        }
        b"/apisix/prometheus/metrics" => (200, PROMETHEUS, metrics::apisix::page(state)),
        b"/metrics" => (200, PROMETHEUS, metrics::page(state)),
        _ => (404, TEXT, "there are /livez, /readyz and /metrics\n".to_owned()),
    }
}

/// What `max_age` says, in seconds.
fn age_max(query: &[u8]) -> Result<Option<Duration>, String> {
    let Some(text) = query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"max_age=")) else {
        return Ok(None);
    };
    let seconds = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    seconds
        .map(|seconds| Some(Duration::from_secs(seconds)))
        .ok_or_else(|| "max_age is a whole number of seconds\n".to_owned())
}
