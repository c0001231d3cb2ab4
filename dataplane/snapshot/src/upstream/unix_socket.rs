//! Nodes that are Unix sockets: a host that reads `unix:/run/app.sock`, as nginx spells it.
//!
//! `unix:///run/app.sock` says the same. Refused by name: relative paths, abstract sockets, paths that do not fit into the kernel's
//! `sun_path`, and a ':' behind the path, which in nginx begins a URI and elsewhere a port; a socket has neither.

use crate::limits::UNIX_PATH_BYTES_MAX;

const SCHEME: &str = "unix:";

/// The path of a node that is a Unix socket; `None`: it is something else.
pub fn unix_path(host: &str) -> Option<Result<&str, String>> {
    if let Some(path) = host.strip_prefix(SCHEME) {
        return Some(judge(path).map_err(|reason| format!("{host:?} {reason}")));
    }
    let looks_so = host.starts_with('/')
        || host.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
        || host.starts_with("unix@");
    looks_so.then(|| Err(format!("{host:?} must be written unix:/path to name a Unix socket")))
}

fn judge(path: &str) -> Result<&str, String> {
    let slashes = path.bytes().take_while(|byte| *byte == b'/').count();
    // An empty authority, as URLs have it (RFC 3986 section 3.2).
    let path = if slashes == 3 { path.get(2..).unwrap_or_default() } else { path };
    if path.starts_with('@') || path.starts_with('\0') {
        return Err("names an abstract socket, which is not supported: give one with a path".to_owned());
    }
    match slashes {
        0 => return Err("has no absolute path: unix:/run/app.sock".to_owned()),
        1 | 3 => {}
        _ => return Err("must have one slash, or three, behind \"unix:\"".to_owned()),
    }
    if path.contains(':') {
        return Err("has a ':' behind the path: a Unix socket has no port and no URI".to_owned());
    }
    if path.ends_with('/') {
        return Err("names a folder, not a socket".to_owned());
    }
    if path.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("holds a control character".to_owned());
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "has a path of {} bytes; the kernel takes {UNIX_PATH_BYTES_MAX} at most",
            path.len()
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_name_the_same_socket() {
        for host in ["unix:/run/app.sock", "unix:///run/app.sock"] {
            assert_eq!(unix_path(host), Some(Ok("/run/app.sock")));
        }
        let longest = format!("unix:/{}", "a".repeat(UNIX_PATH_BYTES_MAX - 1));
        assert_eq!(unix_path(&longest), Some(Ok(&longest[5..])));
        for host in ["127.0.0.1", "::1", "unix", "unix.example.com", "a:b", ""] {
            assert_eq!(unix_path(host), None, "{host}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        let long = format!("unix:/{}", "a".repeat(UNIX_PATH_BYTES_MAX));
        for (host, why) in [
            ("unix:run/app.sock", "no absolute path"),
            ("unix:", "no absolute path"),
            ("unix:./app.sock", "no absolute path"),
            ("unix://run/app.sock", "one slash, or three"),
            ("unix:@app", "abstract"),
            ("unix:\0app", "abstract"),
            ("unix:/run/app.sock:80", "no port"),
            ("unix:/run/app.sock:/uri", "no URI"),
            ("unix:/run/", "folder"),
            ("unix:/", "folder"),
            ("unix:/run/a\nb", "control"),
            ("unix:/run/a\0b", "control"),
            (long.as_str(), "108 bytes; the kernel takes 107"),
            ("/run/app.sock", "unix:/path"),
            ("unix@/run/app.sock", "unix:/path"),
            ("UNIX:/run/app.sock", "unix:/path"),
        ] {
            let told = unix_path(host).unwrap().unwrap_err();
            assert!(told.contains(why), "{host}: {told}");
        }
    }
}
