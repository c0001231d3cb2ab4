//! The one request that a run sends again and again, as bytes made once.

use anyhow::{Context, Result, bail};

/// Larger bodies would be held in memory for nothing that a test shows.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    head: bool,
}

/// Where a request goes: `http://host:port/path`, without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) authority: String,
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest =
            url.strip_prefix("http://").with_context(|| format!("{url:?}: only http:// is supported"))?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if authority.is_empty() || url.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control()) {
            bail!("{url:?} is not a URL with a host");
        }
        Ok(Self { authority: authority.to_owned(), path: path.to_owned() })
    }

    /// The authority with its port, for resolving.
    pub(crate) fn host_port(&self) -> String {
        let port = self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if port { self.authority.clone() } else { format!("{}:80", self.authority) }
    }
}

impl Request {
    /// `headers` are whole lines (`Name: value`); `Host` among them replaces the URL's.
    pub(crate) fn build(
        method: &str,
        target: &Target,
        headers: &[String],
        body_bytes: usize,
        close: bool,
    ) -> Result<Self> {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
            bail!("{method:?} is not a method");
        }
        if body_bytes > BODY_BYTES_MAX {
            bail!("a body of {body_bytes} bytes: the limit is {BODY_BYTES_MAX}");
        }
        let mut head = format!("{method} {} HTTP/1.1\r\n", target.path);
        if !headers.iter().any(|line| names(line, "host")) {
            head.push_str(&format!("Host: {}\r\n", target.authority));
        }
        for line in headers {
            if !line.contains(':') || line.contains(['\r', '\n']) {
                bail!("{line:?} is not a header: write \"Name: value\"");
            }
            if names(line, "content-length") || names(line, "transfer-encoding") {
                bail!("{line:?}: the framing follows from --body-bytes");
            }
            head.push_str(line);
            head.push_str("\r\n");
        }
        if body_bytes > 0 || matches!(method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {body_bytes}\r\n"));
        }
        if close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.resize(bytes.len() + body_bytes, b'x');
        Ok(Self { bytes, head: method == "HEAD" })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_head(&self) -> bool {
        self.head
    }
}

fn names(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(field, _)| field.trim().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_authority_and_path() {
        let target = Target::parse("http://127.0.0.1:8080/a?b=c").unwrap();
        assert_eq!(target, Target { authority: "127.0.0.1:8080".into(), path: "/a?b=c".into() });
        assert_eq!(Target::parse("http://gateway").unwrap().host_port(), "gateway:80");
        assert_eq!(Target::parse("http://[::1]:81").unwrap().host_port(), "[::1]:81");
        for url in ["https://a/", "http:///a", "a", "http://a/ b", "http://a/\r\nX: y"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_post_has_its_length_and_body() {
        let target = Target::parse("http://h/p").unwrap();
        let request = Request::build("POST", &target, &["X-A: 1".into()], 3, true).unwrap();
        let expected =
            "POST /p HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxxx";
        assert_eq!(String::from_utf8(request.bytes().to_vec()).unwrap(), expected);
    }

    #[test]
    fn headers_that_would_break_the_request_are_refused() {
        let target = Target::parse("http://h/").unwrap();
        for header in ["no colon", "A: b\r\nC: d", "Content-Length: 5"] {
            assert!(Request::build("GET", &target, &[header.into()], 0, false).is_err(), "{header:?}");
        }
    }
}
