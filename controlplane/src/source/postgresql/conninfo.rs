//! Connection strings as libpq reads them, a URL or `key=value` pairs, taken apart into settings.
//!
//! tokio-postgres reads them too, but knows neither the files of TLS nor all of libpq's words, takes an `@` anywhere for the
//! end of credentials, and seconds for `tcp_user_timeout`. So settings are taken apart here, those that this program acts on itself are
//! [taken](Conninfo::take) out, and the rest is handed on in a form that cannot be misread.
//!
//! What cannot be honoured is refused by name. No message repeats a value, nor a name that is not known: it may be a
//! part of a password that was not escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What [`Conninfo::rest`] may hold: tokio-postgres acts on these.
const PASSED: [&str; 14] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "channel_binding",
    "sslnegotiation",
];
/// What this program acts on.
const OWN: [&str; 8] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "target_session_attrs",
    "tcp_user_timeout",
    "fallback_application_name",
    "keepalives_count",
];
/// Settings that ask for what is done anyway, with the values that do.
const GIVEN: [(&str, &[&str]); 6] = [
    ("client_encoding", &["auto", "utf8", "UTF8", "UTF-8"]),
    ("gssencmode", &["disable", "prefer"]),
    ("sslcompression", &["0"]),
    ("sslsni", &["1"]),
    ("load_balance_hosts", &["disable"]),
    ("sslcertmode", &["allow"]),
];
/// Settings of libpq that nothing here acts on.
const REFUSED: [&str; 17] = [
    "passfile",
    "service",
    "servicefile",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "requirepeer",
    "require_auth",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "replication",
    "min_protocol_version",
    "max_protocol_version",
];

/// The settings of one connection string.
pub(super) struct Conninfo(BTreeMap<String, String>);

/// What is wrong with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not parse.
    Form(&'static str),
    /// A setting of libpq that nothing here acts on.
    Setting(&'static str),
    /// A value of a setting that nothing here acts on.
    Value(&'static str),
}

impl Conninfo {
    /// Takes one apart. Where a setting stands twice, the last one counts.
    pub(super) fn parse(text: &str) -> Result<Conninfo, Fault> {
        let after_scheme =
            ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let settings = match after_scheme {
            Some(rest) => url(rest)?,
            None => pairs(text)?,
        };
        let mut known = BTreeMap::new();
        for (key, value) in settings {
            if let Some(name) = REFUSED.iter().find(|name| **name == key) {
                return Err(Fault::Setting(name));
            }
            if let Some((name, values)) = GIVEN.iter().find(|(name, _)| *name == key) {
                if !value.is_empty() && !values.contains(&value.as_str()) {
                    return Err(Fault::Value(name));
                }
            } else if PASSED.contains(&key.as_str()) || OWN.contains(&key.as_str()) {
                known.insert(key, value);
            } else {
                return Err(Fault::Form("it has an option that is not known"));
            }
        }
        // An empty value is as good as none, as in libpq.
        known.retain(|_, value| !value.is_empty());
        Ok(Conninfo(known))
    }

    /// Takes a setting out.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        debug_assert!(OWN.contains(&key), "{key} is not a setting of this program");
        self.0.remove(key)
    }

    /// All that was not taken, as tokio-postgres reads it.
    pub(super) fn rest(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.0 {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            // Writing to a string does not fail.
            let _ = write!(text, "{key}='{value}' ");
        }
        text
    }
}

/// `user:password@host:port,host:port/database?key=value&key=value`, each part optional.
fn url(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut found = Vec::new();
    let mut add = |key: &str, value: &str| -> Result<(), Fault> {
        found.push((key.to_owned(), decoded(value)?));
        Ok(())
    };
    // Credentials end at an @ before the first slash; a later one belongs to something else.
    let authority_end = text.find('/').unwrap_or(text.len());
    let (credentials, text) = match text.get(..authority_end).and_then(|authority| authority.find('@')) {
        Some(at) => (text.get(..at), text.get(at + 1..).unwrap_or_default()),
        None => (None, text),
    };
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        add("user", user)?;
        add("password", password)?;
    }
    let (place, query) = text.split_once('?').unwrap_or((text, ""));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    if !hosts.is_empty() {
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = host_and_port(host)?;
            names.push(name);
            ports.push(port);
        }
        add("host", &names.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            add("port", &ports.join(","))?;
        }
    }
    add("dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(Fault::Form("it has an option without a value"))?;
        add(&decoded(key)?, value)?;
    }
    Ok(found)
}

fn host_and_port(text: &str) -> Result<(&str, &str), Fault> {
    // No host has one, and what stands before it may be the end of a password, which would be logged as part of the host's name.
    if text.contains('@') {
        return Err(Fault::Form("it has more than one @ (write %40 for an @ in a password)"));
    }
    let Some(rest) = text.strip_prefix('[') else {
        return Ok(text.split_once(':').unwrap_or((text, "")));
    };
    let (address, after) =
        rest.split_once(']').ok_or(Fault::Form("an IPv6 address in it has no closing ']'"))?;
    match after.strip_prefix(':') {
        Some(port) => Ok((address, port)),
        None if after.is_empty() => Ok((address, "")),
        None => Err(Fault::Form("it has something other than a port after an IPv6 address")),
    }
}

/// Undoes `%xx`.
fn decoded(text: &str) -> Result<String, Fault> {
    const BAD: Fault =
        Fault::Form("it has a % that two hexadecimal digits do not follow (write %25 for a %)");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(BAD) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| BAD)?);
    }
    if bytes.contains(&0) {
        return Err(Fault::Form("it has a %00"));
    }
    String::from_utf8(bytes).map_err(|_| Fault::Form("it is not UTF-8 where % is undone"))
}

/// `key = value key='quoted \' value'`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or(Fault::Form("it is neither a URL nor key=value"))?;
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(Fault::Form("it is neither a URL nor key=value"));
        }
        let (value, after) = value(after.trim_start())?;
        found.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(found)
}

/// One value and what stands after it.
fn value(text: &str) -> Result<(String, &str), Fault> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped)) => value.push(escaped),
                None => return Err(Fault::Form("it ends with a backslash")),
            },
            '\'' if quoted => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            c if c.is_whitespace() && !quoted => return Ok((value, text.get(at..).unwrap_or_default())),
            c => value.push(c),
        }
    }
    if quoted { Err(Fault::Form("a quoted value in it does not end")) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(text: &str) -> String {
        Conninfo::parse(text).map_or_else(|fault| format!("{fault:?}"), |info| info.rest())
    }

    #[test]
    fn a_url_and_pairs_say_the_same() {
        let url = "postgresql://me:p%40ss%27@a:5433,b/db?connect_timeout=7&application_name=x%20y";
        let pairs = r"user=me password='p@ss\'' host=a,b port = 5433, dbname=db connect_timeout=7 application_name=x\ y";
        assert_eq!(rest(url), rest(pairs));
        assert_eq!(
            rest(url),
            r"application_name='x y' connect_timeout='7' dbname='db' host='a,b' password='p@ss\'' port='5433,' user='me' "
        );
    }

    #[test]
    fn what_libpq_takes_is_taken() {
        assert_eq!(rest("postgresql:///db?user=x&password=a@b"), "dbname='db' password='a@b' user='x' ");
        assert_eq!(rest("postgres://[::1]:5433,[fe80::2]/"), "host='::1,fe80::2' port='5433,' ");
        assert_eq!(rest("postgresql://u:a?b@h"), "host='h' password='a?b' user='u' ");
        assert_eq!(rest("postgresql:///db?host=%2Ftmp%2Fa,/b&user="), "dbname='db' host='/tmp/a,/b' ");
        assert_eq!(rest("dbname=a dbname=b client_encoding=UTF8 gssencmode=prefer"), "dbname='b' ");
        let mut info = Conninfo::parse("host=h sslmode=require").unwrap();
        assert_eq!((info.take("sslmode").as_deref(), info.take("sslkey")), (Some("require"), None));
        assert_eq!(info.rest(), "host='h' ");
    }

    #[test]
    fn what_is_not_acted_on_is_refused_by_name_and_no_value_is_repeated() {
        for (text, told) in [
            ("postgresql://h/d?sslcrl=/secret", "Setting(\"sslcrl\")"),
            ("host=h passfile=/secret", "Setting(\"passfile\")"),
            ("host=h load_balance_hosts=random", "Value(\"load_balance_hosts\")"),
            ("postgresql://u@h/d?password=a&secret=b", "not known"),
            ("user=u password=x secret", "neither a URL"),
            ("password='secret", "does not end"),
            ("postgresql://u:%zz@h/secret", "hexadecimal"),
            ("postgresql://u@[::1/secret", "closing"),
            ("postgresql://u@h/d?secret", "without a value"),
            ("postgresql://u:p@secret@h/d", "more than one @"),
        ] {
            let fault = rest(text);
            assert!(fault.contains(told) && !fault.contains("secret"), "{text}: {fault}");
        }
    }
}
