//! One HTTP/1.1 request on a connection of its own, with a deadline and a limit on the answer.
//!
//! It follows no redirect and uses no proxy: the key goes to the address that was given and nowhere else.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ringway_controlplane::admin::tls::TlsTrust;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For a whole answer; a plan of a hundred thousand objects takes its time.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Bytes of an answer; a dump of a million routes fits.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    authority: String,
    tls: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

impl Place {
    pub(super) fn at(address: SocketAddr, tls: bool) -> Place {
        Place { authority: address.to_string(), tls }
    }

    /// Reads `http://HOST:PORT`, `https://HOST:PORT`, or HOST:PORT alone, which is plain HTTP.
    pub(super) fn parse(url: &str) -> Result<Place, String> {
        let refuse = |why: &str| {
            Err(format!("--server {url:?}: {why}; give it as http://HOST:PORT or https://HOST:PORT"))
        };
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return refuse("not a scheme that is known"),
            None => (false, url),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty()
            || rest.contains(|c: char| "/?#@".contains(c) || c.is_whitespace() || c.is_control())
        {
            return refuse("only a host and a port are expected");
        }
        let port = rest.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        match port {
            Some((host, port)) if host.is_empty() || port.parse::<u16>().is_err() => {
                refuse("the port is a number")
            }
            Some(_) => Ok(Place { authority: rest.to_owned(), tls }),
            None if rest.contains(':') && !rest.ends_with(']') => {
                refuse("an IPv6 address stands in brackets")
            }
            None => Ok(Place { authority: format!("{rest}:9180"), tls }),
        }
    }

    /// Without brackets.
    fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn is_this_host(&self) -> bool {
        let host = self.host();
        let ip = host.parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) place: &'a Place,
    /// For a place with TLS.
    pub(super) trust: &'a TlsTrust,
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) key: &'a str,
    pub(super) if_match: Option<&'a str>,
    pub(super) body: Option<String>,
    pub(super) limit: Duration,
}

/// Its answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) tag: Option<String>,
    pub(super) body: Bytes,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nothing was sent.
    NoConnection(String),
    /// It may have been sent.
    Broken(String),
}

impl Exchange<'_> {
    /// Sends it and reads the answer.
    pub(super) fn run(self) -> Result<Reply, Unanswered> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Unanswered::NoConnection(error.to_string()))?;
        runtime.block_on(self.exchange())
    }

    async fn exchange(self) -> Result<Reply, Unanswered> {
        let none = |why: String| Unanswered::NoConnection(why);
        let request = self.request().map_err(none)?;
        let stream = match timeout(CONNECT_MAX, TcpStream::connect(&self.place.authority)).await {
            Ok(stream) => stream.map_err(|error| none(error.to_string()))?,
            Err(_) => return Err(none(format!("no connection within {} s", CONNECT_MAX.as_secs()))),
        };
        let _ = stream.set_nodelay(true);
        if !self.place.tls {
            return self.converse(stream, request).await;
        }
        let config = self.trust.client().map_err(|error| none(error.to_string()))?;
        let name =
            ServerName::try_from(self.place.host().to_owned()).map_err(|error| none(error.to_string()))?;
        match timeout(CONNECT_MAX, TlsConnector::from(config).connect(name, stream)).await {
            Ok(Ok(stream)) => self.converse(stream, request).await,
            Ok(Err(error)) => Err(none(format!(
                "TLS: {error} (--ca FILE names whom to trust, --server the name that its certificate has)"
            ))),
            Err(_) => Err(none(format!("no TLS handshake within {} s", CONNECT_MAX.as_secs()))),
        }
    }

    async fn converse<S>(self, stream: S, request: Request<Full<Bytes>>) -> Result<Reply, Unanswered>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let tls = self.place.tls;
        let broken = |error: &dyn fmt::Display| Unanswered::Broken(error.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // Ends with the runtime.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let whole = async {
            let response =
                sender.send_request(request).await.map_err(|error| Unanswered::Broken(why(&error, tls)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| broken(&error))?.to_bytes();
            let tag = head.headers.get("etag").and_then(|tag| tag.to_str().ok()).map(ToOwned::to_owned);
            Ok(Reply { status: head.status.as_u16(), tag, body })
        };
        match timeout(self.limit, whole).await {
            Ok(reply) => reply,
            Err(_) => Err(Unanswered::Broken(format!("no answer within {} s", self.limit.as_secs()))),
        }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header("host", &self.place.authority)
            .header("user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION")))
            .header("connection", "close");
        let mut key = hyper::header::HeaderValue::from_str(self.key)
            .map_err(|_| "the key holds characters that no header field can have".to_owned())?;
        key.set_sensitive(true);
        request = request.header("x-api-key", key);
        if let Some(tag) = self.if_match {
            request = request.header("if-match", tag);
        }
        if self.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = Full::new(Bytes::from(self.body.clone().unwrap_or_default()));
        request.body(body).map_err(|error| error.to_string())
    }
}

/// The last cause, which says most, and what to do where it is a matter of TLS.
fn why(error: &(dyn std::error::Error + 'static), tls: bool) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    let advice = match () {
        () if text.contains("CertificateRequired") => {
            " (it wants a certificate: --client-cert and --client-key)"
        }
        () if !tls && error.to_string().contains("parse") => {
            " (does it speak TLS? Then --server https://...)"
        }
        () => "",
    };
    format!("{text}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (url, want) in [
            ("http://10.0.0.1:9180", "http://10.0.0.1:9180"),
            ("HTTP://gw.example.com/", "http://gw.example.com:9180"),
            ("localhost:1", "http://localhost:1"),
            ("http://[::1]:2", "http://[::1]:2"),
            ("http://[::1]", "http://[::1]:9180"),
            ("https://gw.example.com", "https://gw.example.com:9180"),
        ] {
            assert_eq!(Place::parse(url).map(|place| place.to_string()).as_deref(), Ok(want), "{url}");
        }
        for (url, want) in [
            ("ftp://a:1", "scheme"),
            ("http://a:1/apisix", "only a host"),
            ("http://me@a:1", "only a host"),
            ("http://a:x", "the port"),
            ("http://::1", "brackets"),
            ("", "only a host"),
        ] {
            let refused = Place::parse(url).unwrap_err();
            assert!(refused.contains(want), "{url}: {refused}");
        }
    }

    #[test]
    fn this_host_is_loopback_and_nothing_else() {
        let own = |url: &str| Place::parse(url).unwrap().is_this_host();
        assert!(own("http://127.0.0.1:1") && own("http://[::1]:1") && own("http://localhost"));
        assert!(
            !own("http://10.0.0.1:1") && !own("http://localhost.example.com") && !own("http://127.evil.test")
        );
    }
}
