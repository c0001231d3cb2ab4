//! Who may use the Admin API: keys with a name and a role. Only their SHA-256 is kept.
//!
//! Several keys stand beside each other, so that one is replaced without a pause: add the new one, move the clients, take the old one
//! out. A key is random text of 16 bytes or more, so a plain hash is as good as a slow one; comparing hashes tells an
//! attacker nothing by its duration. The name of the key is the actor of what is written with it.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Bytes that a key has at least where others than this host can try.
const KEY_BYTES_MIN: usize = 16;
/// Bytes of a key's name: it stands in the history.
const NAME_BYTES_MAX: usize = 64;
/// Bytes of a file of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Marks a key that is given as its hash.
const HASHED: &str = "sha256:";
/// Hashes of the keys that APISIX ships, which everybody knows.
const SHIPPED: [&str; 2] = [
    "477a2767fa27931db11a3581100a4124b5720f6b6468ddd64062170cec157185",
    "228ab1b6080ec4178302ba76f9fa4af4f2dc14fc105a364b324bdb9045af03a1",
];

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reading.
    Viewer,
}

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    name: String,
    role: Role,
    hash: [u8; 32],
    /// Why it is not to be used where others can reach it.
    weak: Option<&'static str>,
}

/// The hash is no secret worth much, but it has no business in a log either.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} as {:?})", self.name, self.role)
    }
}

/// A key in the configuration file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOnFile {
    name: String,
    role: Role,
    key: String,
}

impl fmt::Debug for KeyOnFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyOnFile({})", self.name)
    }
}

/// Why a key cannot be used. Never shows the key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// Cannot be read.
    #[error("cannot read the file of admin keys {0}: {1}")]
    File(String, String),
    /// A line of it.
    #[error("{0} line {1}: a line is KEY, or NAME ROLE KEY with role admin or viewer; KEY may be sha256:HEX")]
    Line(String, usize),
    /// Nothing, or what cannot be a hash.
    #[error("the admin key {0:?} is empty, or its sha256: is not 64 hexadecimal digits")]
    Empty(String),
    /// Its name.
    #[error("an admin key's name has 1 to 64 letters, digits, '.', '_', '@' or '-'; found {0:?}")]
    Name(String),
    /// Two of one name would make the history lie.
    #[error("two admin keys are called {0:?}")]
    Twice(String),
}

/// All keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Actor {
    /// The key's name.
    pub(super) name: String,
    /// What it allows.
    pub(super) role: Role,
}

impl Keys {
    /// Adds the keys of the configuration file.
    pub fn add(&mut self, listed: Vec<KeyOnFile>) -> Result<(), KeyError> {
        listed.into_iter().try_for_each(|one| self.push(&one.name, one.role, &one.key))
    }

    /// Adds the keys of a file: one a line, `KEY` or `NAME ROLE KEY`.
    pub fn read(&mut self, path: &Path) -> Result<(), KeyError> {
        let shown = path.display().to_string();
        let failed = |reason: String| KeyError::File(shown.clone(), reason);
        let bytes = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(failed(format!("is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        for (index, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                [key] => self.push("admin", Role::Admin, key)?,
                [name, "admin", key] => self.push(name, Role::Admin, key)?,
                [name, "viewer", key] => self.push(name, Role::Viewer, key)?,
                _ => return Err(KeyError::Line(shown, index + 1)),
            }
        }
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A key that must not be used where others can reach it, and why.
    pub fn weak(&self) -> Option<(&str, &'static str)> {
        self.0.iter().find_map(|key| Some((key.name.as_str(), key.weak?)))
    }

    /// Whose key this is.
    pub(super) fn whose(&self, presented: &str) -> Option<Actor> {
        let hash = hash(presented);
        let key = self.0.iter().find(|key| key.hash == hash)?;
        Some(Actor { name: key.name.clone(), role: key.role })
    }

    fn push(&mut self, name: &str, role: Role, key: &str) -> Result<(), KeyError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
            return Err(KeyError::Name(name.to_owned()));
        }
        if self.0.iter().any(|other| other.name == name) {
            return Err(KeyError::Twice(name.to_owned()));
        }
        let empty = || KeyError::Empty(name.to_owned());
        let (hash, short) = match key.strip_prefix(HASHED) {
            Some(hex) => (parse_hex(hex).ok_or_else(empty)?, false),
            None if key.is_empty() => return Err(empty()),
            None => (hash(key), key.len() < KEY_BYTES_MIN),
        };
        let weak = match () {
            () if SHIPPED.contains(&to_hex(&hash).as_str()) => {
                Some("is one that APISIX ships and everybody knows")
            }
            () if hash == self::hash("") => Some("is empty"),
            () if short => Some("has less than 16 bytes"),
            () => None,
        };
        self.0.push(Key { name: name.to_owned(), role, hash, weak });
        Ok(())
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Keys, KeyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, text).unwrap();
        let mut keys = Keys::default();
        keys.read(&path)?;
        Ok(keys)
    }

    #[test]
    fn a_key_is_known_by_its_text_or_its_hash() {
        let hashed = to_hex(&hash("another-key-of-some-length"));
        let text = format!("# rotation\nold-key-of-some-length\n\nci viewer sha256:{hashed}\n");
        let keys = keys(&text).unwrap();
        assert_eq!(keys.whose("old-key-of-some-length").unwrap().name, "admin");
        let ci = keys.whose("another-key-of-some-length").unwrap();
        assert_eq!((ci.name.as_str(), ci.role), ("ci", Role::Viewer));
        assert_eq!(keys.whose(""), None);
        assert_eq!(keys.whose(&hashed), None);
        assert_eq!(keys.weak(), None);
        assert!(!format!("{keys:?}").contains(&hashed));
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for text in ["a b", "a writer 0123456789abcdef0123", "a admin sha256:12", "a admin x y"] {
            let error = keys(text).unwrap_err().to_string();
            assert!(!error.contains("0123456789abcdef"), "{error}");
        }
        assert_eq!(
            keys("k1-of-some-length\nk2-of-some-length").unwrap_err(),
            KeyError::Twice("admin".into())
        );
    }

    #[test]
    fn shipped_and_short_keys_are_weak() {
        let shipped = ["edd1c9f034335f13", "6f87ad84b625c8f1"].concat();
        assert!(keys(&shipped).unwrap().weak().unwrap().1.contains("everybody knows"));
        assert!(keys("short").unwrap().weak().unwrap().1.contains("16 bytes"));
    }
}
