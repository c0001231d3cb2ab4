//! `application/x-www-form-urlencoded`, as the query's arguments are read.
//!
//! Of a name that repeats all values are kept, in order. Invariant: at most [`VALUES_MAX`](super::VALUES_MAX) pairs, or none is read.

use std::collections::BTreeMap;

use super::{VALUES_MAX, Value};
use crate::facts::unescaped;

/// The fields of a form; `None`: there are too many.
pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    let mut fields = BTreeMap::new();
    let pairs = bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    for (count, pair) in pairs.enumerate() {
        if count >= VALUES_MAX {
            return None;
        }
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next()?, parts.next().unwrap_or_default());
        let value = Value::Text((*unescaped(value)).into());
        match fields.get_mut(&*unescaped(name)) {
            None => {
                fields.insert((*unescaped(name)).into(), value);
            }
            Some(Value::List(values)) => values.push(value),
            Some(first) => *first = Value::List(vec![std::mem::replace(first, Value::Null), value]),
        }
    }
    Some(Value::Fields(fields))
}
