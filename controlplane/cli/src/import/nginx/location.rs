//! A location's pattern as Ringway's paths.
//!
//! nginx compares a prefix byte by byte (`/foo` is also `/foobar`), as Ringway's `/foo*` does. Of regular expressions only those are carried over
//! that say no more than an anchored text does; what they mean beyond that is never guessed.

/// What a location matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) uri: String,
    pub(super) was_regex: bool,
}

/// The pattern of `location ARGUMENTS`; `Err` is why there is none.
pub(super) fn pattern(arguments: &[String]) -> Result<Pattern, &'static str> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (uri, was_regex) = match words.as_slice() {
        [name] if name.starts_with('@') => return Err("a named location is reached from within only"),
        ["=", path] => (literal(path)?, false),
        ["^~", path] | [path] => (format!("{}*", literal(path)?), false),
        ["~", regex] => (of_regex(regex)?, true),
        ["~*", _] => return Err("paths are matched with regard to case only"),
        _ => return Err("not a location that is understood"),
    };
    Ok(Pattern { uri, was_regex })
}

/// A path without what Ringway would take for a pattern.
fn literal(path: &str) -> Result<String, &'static str> {
    let path = path.replace("\\ ", " ");
    if !path.starts_with('/') {
        return Err("a path begins with /");
    }
    if path.contains('*') || path.contains("/:") {
        return Err("\"*\" and \"/:\" stand for patterns in Ringway's paths");
    }
    if path.contains('$') {
        return Err("a path with variables");
    }
    Ok(path)
}

/// `^/a$` is exact, `^/a`, `^/a.*` and `^/a.*$` are prefixes, where `/a` has nothing that means something in an expression.
fn of_regex(regex: &str) -> Result<String, &'static str> {
    const WHY: &str = "a regular expression that is more than an anchored text";
    let inner = regex.strip_prefix('^').ok_or(WHY)?;
    let (inner, is_exact) = match inner.strip_suffix('$') {
        Some(inner) => match inner.strip_suffix(".*") {
            Some(inner) => (inner, false),
            None => (inner, true),
        },
        None => (inner.strip_suffix(".*").unwrap_or(inner), false),
    };
    let mut path = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c) if c.is_ascii_punctuation() => path.push(c),
                _ => return Err(WHY),
            },
            c if ".*+?()[]{}|^$".contains(c) => return Err(WHY),
            c => path.push(c),
        }
    }
    let path = literal(&path)?;
    Ok(if is_exact { path } else { format!("{path}*") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(words: &[&str]) -> Result<String, &'static str> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        pattern(&words).map(|pattern| pattern.uri)
    }

    #[test]
    fn each_kind_of_location() {
        for (words, want) in [
            (&["/"][..], "/*"),
            (&["/api/"], "/api/*"),
            (&["=", "/health"], "/health"),
            (&["^~", "/static"], "/static*"),
            (&["~", "^/v1/"], "/v1/*"),
            (&["~", r"^/v1\.0/ping$"], "/v1.0/ping"),
            (&["~", "^/files/.*$"], "/files/*"),
        ] {
            assert_eq!(uri(words).as_deref(), Ok(want), "{words:?}");
        }
        for words in [
            &["@back"][..],
            &["~", r"\.php$"],
            &["~", "^/a/[0-9]+"],
            &["~*", "^/a"],
            &["~", "^/a|b"],
            &["/a*"],
            &["/:x"],
            &["x"],
        ] {
            assert!(uri(words).is_err(), "{words:?}");
        }
    }
}
