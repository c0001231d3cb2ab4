//! Refuses JSON in which an object has a key twice: which of the two counts is every reader's own choice (RFC 8259 section 4), so that what was
//! checked may not be what is served.
//!
//! Only looks; what else may be wrong with the text its reader tells.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Objects of more keys find the second of two by hashing.
const COMPARED_KEYS_MAX: usize = 16;

/// The JSON pointer of the first key that its object has twice.
pub(super) fn twice(body: &[u8]) -> Option<String> {
    let mut walk = Walk::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    // Whatever else is wrong is told by who reads it.
    let _ = Any(&mut walk).deserialize(&mut reader);
    walk.twice
}

#[derive(Default)]
struct Walk<'de> {
    path: Vec<Step<'de>>,
    twice: Option<String>,
}

enum Step<'de> {
    Key(Cow<'de, str>),
    Index(usize),
}

impl Walk<'_> {
    fn pointer(&self, last: &str) -> String {
        let mut pointer = String::new();
        let mut add = |segment: &str| {
            pointer.push('/');
            pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
        };
        for step in &self.path {
            match step {
                Step::Key(key) => add(key),
                Step::Index(index) => add(&index.to_string()),
            }
        }
        add(last);
        pointer
    }
}

struct Any<'w, 'de>(&'w mut Walk<'de>);

impl<'de> DeserializeSeed<'de> for Any<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut few, mut many): (Vec<Cow<'de, str>>, HashSet<Cow<'de, str>>) = Default::default();
        while let Some(key) = map.next_key_seed(Key)? {
            let is_new = if few.len() < COMPARED_KEYS_MAX {
                !few.contains(&key)
            } else {
                if many.is_empty() {
                    many.extend(few.iter().cloned());
                }
                many.insert(key.clone())
            };
            if !is_new {
                self.0.twice = Some(self.0.pointer(&key));
                return Err(A::Error::custom("a key stands twice"));
            }
            if few.len() < COMPARED_KEYS_MAX {
                few.push(key.clone());
            }
            self.0.path.push(Step::Key(key));
            map.next_value_seed(Any(&mut *self.0))?;
            self.0.path.pop();
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.0.path.push(Step::Index(index));
            let element = list.next_element_seed(Any(&mut *self.0))?;
            self.0.path.pop();
            if element.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_found_wherever_it_stands() {
        for (text, want) in [
            (r#"{"a": 1, "b": {"a": [1, "a", null, true, 1.5, -1]}}"#, None),
            (r#"[{"a": 1}, {"a": 1}]"#, None),
            (r#"{"uri": "/a", "uri": "/b"}"#, Some("/uri")),
            (r#"{"uri": "/a", "ur\u0069": "/b"}"#, Some("/uri")),
            (r#"{"plugins": {"a/b": {"k": 1}, "a/b": {}}}"#, Some("/plugins/a~1b")),
            (r#"{"a": [{}, {"b": 1, "c": 2, "b": 1}]}"#, Some("/a/1/b")),
            (r#"{"a": 1"#, None),
            ("", None),
        ] {
            assert_eq!(twice(text.as_bytes()).as_deref(), want, "{text}");
        }
        let keys: Vec<String> = (0..100).map(|n| format!("\"k{n}\": {n}")).collect();
        let all = keys.join(", ");
        assert_eq!(twice(format!("{{{all}}}").as_bytes()), None);
        for again in [0, 15, 16, 17, 99] {
            let text = format!("{{{all}, \"k{again}\": 0}}");
            assert_eq!(twice(text.as_bytes()), Some(format!("/k{again}")));
        }
    }
}
