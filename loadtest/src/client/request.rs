//! The one request that a run sends again and again, as bytes made once; or one for each of many hosts and paths, of which
//! only the digits differ.

use anyhow::{Context, Result, bail};

/// Larger bodies would be held in memory for nothing that a test shows.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What `Places` numbers with a fixed number of digits, so that all requests have one length.
const HOST_DIGITS: usize = 6;
const PATH_DIGITS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    head: bool,
    varied: Option<Varied>,
}

/// Hosts `h000000.test` and on, and on each of them paths below `/p000/` and on. Who configures a gateway for them takes the
/// names from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) hosts: u32,
    pub(crate) paths: u32,
}

#[derive(Clone, Copy, Debug)]
struct Varied {
    places: Places,
    host_at: usize,
    path_at: usize,
}

impl Places {
    pub(crate) fn host(number: u32) -> String {
        format!("h{number:0HOST_DIGITS$}.test")
    }

    /// Without the slash at the end.
    pub(crate) fn path(number: u32) -> String {
        format!("/p{number:0PATH_DIGITS$}")
    }

    /// Host and path of the request `number`: the same in every run, and in an order that no cache foresees (the
    /// finaliser of SplitMix64).
    fn of(self, number: u64) -> (u32, u32) {
        let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let (high, low) = ((mixed >> 32) as u32, mixed as u32);
        (high % self.hosts.max(1), low % self.paths.max(1))
    }
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
        Ok(Self { bytes, head: method == "HEAD", varied: None })
    }

    /// A GET to one of many hosts and paths, another one each time.
    pub(crate) fn spread(places: Places) -> Result<Self> {
        let (hosts, paths) = (10_u32.pow(HOST_DIGITS as u32), 10_u32.pow(PATH_DIGITS as u32));
        if !(1..=hosts).contains(&places.hosts) || !(1..=paths).contains(&places.paths) {
            bail!("hosts must be between 1 and {hosts}, paths between 1 and {paths}");
        }
        let (host, path) = (Places::host(0), Places::path(0));
        let bytes = format!("GET {path}/item HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let find = |text: &str| {
            let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
            at.context("a request lacks its own host")
        };
        // Behind the letters "/p" and "h".
        let varied = Varied { places, path_at: find(&path)? + 2, host_at: find(&host)? + 1 };
        Ok(Self { bytes, head: false, varied: Some(varied) })
    }

    /// The bytes of every request, when they are all the same.
    pub(crate) fn fixed(&self) -> Option<&[u8]> {
        self.varied.is_none().then_some(&self.bytes)
    }

    /// Puts the bytes of the request `number` into `buffer`, when they are not all the same.
    pub(crate) fn write(&self, number: u64, buffer: &mut Vec<u8>) {
        let Some(varied) = self.varied else { return };
        let (host, path) = varied.places.of(number);
        buffer.clear();
        buffer.extend_from_slice(&self.bytes);
        for (at, digits, mut value) in
            [(varied.host_at, HOST_DIGITS, host), (varied.path_at, PATH_DIGITS, path)]
        {
            for digit in buffer.get_mut(at..at + digits).unwrap_or_default().iter_mut().rev() {
                *digit = b'0' + (value % 10) as u8;
                value /= 10;
            }
        }
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
        assert_eq!(String::from_utf8(request.fixed().unwrap().to_vec()).unwrap(), expected);
    }

    #[test]
    fn spread_requests_differ_in_their_digits_and_reach_every_place() {
        let places = Places { hosts: 20, paths: 3 };
        let request = Request::spread(places).unwrap();
        assert!(request.fixed().is_none());
        let (mut seen, mut buffer) = (std::collections::HashSet::new(), Vec::new());
        for number in 0..2000 {
            request.write(number, &mut buffer);
            seen.insert(String::from_utf8(buffer.clone()).unwrap());
        }
        assert_eq!(seen.len(), 60);
        let expected = format!("GET {}/item HTTP/1.1\r\nHost: {}\r\n\r\n", Places::path(2), Places::host(19));
        assert!(seen.contains(&expected), "{seen:?}");
        assert!(Request::spread(Places { hosts: 0, paths: 1 }).is_err());
        assert!(Request::spread(Places { hosts: 1, paths: 1001 }).is_err());
    }

    #[test]
    fn headers_that_would_break_the_request_are_refused() {
        let target = Target::parse("http://h/").unwrap();
        for header in ["no colon", "A: b\r\nC: d", "Content-Length: 5"] {
            assert!(Request::build("GET", &target, &[header.into()], 0, false).is_err(), "{header:?}");
        }
    }
}
