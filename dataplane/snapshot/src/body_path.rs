//! `post_arg.PATH`: which values of a request's body a condition is about.
//!
//! Two forms, as APISIX has them. Names with dots between them lead down through objects to one value. A path with `[`, `*` or `..` is a
//! JSONPath and stands for the list of all values that it leads to, so that it is compared with `has`, also where it can lead to
//! one only. Of JSONPath there are names, `[N]`, `['name']`, `*` and one `..`; slices, unions, filters and scripts are refused.
//!
//! Invariant: a walk along a path visits each value of a body at most once for each of its steps.

use crate::limits::{BODY_PATH_BYTES_MAX, BODY_PATH_STEPS_MAX};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyPath {
    steps: Box<[Step]>,
    is_list: bool,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An object's field.
    Field(Box<str>),
    /// A list's element, from 0 on.
    Element(usize),
    /// Every element of a list, or field of an object.
    Every,
    /// The value itself and all that lies in it at any depth.
    Below,
}

impl BodyPath {
    /// Reads what stands behind `post_arg.`; tells why it is no path.
    pub fn read(text: &str) -> Result<BodyPath, String> {
        if text.len() > BODY_PATH_BYTES_MAX {
            return Err(format!("invalid expression: the path has more than {BODY_PATH_BYTES_MAX} bytes"));
        }
        let is_list = text.contains(['[', '*']) || text.contains("..");
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            rest = step(rest, &mut steps).ok_or_else(|| {
                format!("invalid expression: {text:?} is not a path that this release knows, at {rest:?}")
            })?;
            if steps.len() > BODY_PATH_STEPS_MAX {
                return Err(format!(
                    "invalid expression: the path has more than {BODY_PATH_STEPS_MAX} steps"
                ));
            }
            if rest.is_empty() {
                break;
            }
            if let Some(behind) = rest.strip_prefix("..") {
                if steps.contains(&Step::Below) {
                    return Err("invalid expression: \"..\" may stand in a path once".to_owned());
                }
                steps.push(Step::Below);
                rest = behind;
            } else if let Some(behind) = rest.strip_prefix('.') {
                // An element is written behind what it is of, without a dot.
                rest = if behind.starts_with('[') { rest } else { behind };
            }
        }
        Ok(BodyPath { steps: steps.into(), is_list })
    }

    /// Its steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether it stands for a list of values, however many there are.
    pub fn is_list(&self) -> bool {
        self.is_list
    }
}

/// Reads one step off the beginning; `None`: it is none.
fn step<'t>(text: &'t str, steps: &mut Vec<Step>) -> Option<&'t str> {
    if let Some(inner) = text.strip_prefix('[') {
        for quote in ['\'', '"'] {
            if let Some(quoted) = inner.strip_prefix(quote) {
                let (name, behind) = quoted.split_once(quote)?;
                steps.push(Step::Field(name.into()));
                return behind.strip_prefix(']');
            }
        }
        let (inner, behind) = inner.split_once(']')?;
        steps.push(match inner {
            "*" => Step::Every,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Step::Element(digits.parse().ok()?),
            _ => return None,
        });
        return Some(behind);
    }
    if let Some(behind) = text.strip_prefix('*') {
        steps.push(Step::Every);
        return Some(behind);
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "]*()?,'\"".contains(c);
    if name.is_empty() || name.contains(is_odd) {
        return None;
    }
    steps.push(Step::Field(name.into()));
    Some(behind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(name: &str) -> Step {
        Step::Field(name.into())
    }

    #[test]
    fn both_forms_are_read() {
        for (text, is_list, steps) in [
            ("model", false, vec![field("model")]),
            ("user.first-name.0", false, vec![field("user"), field("first-name"), field("0")]),
            ("a[0]", true, vec![field("a"), Step::Element(0)]),
            ("a.*", true, vec![field("a"), Step::Every]),
            ("['x.y'][\"z\"]", true, vec![field("x.y"), field("z")]),
            (
                "messages[*].content[*].type",
                true,
                vec![field("messages"), Step::Every, field("content"), Step::Every, field("type")],
            ),
            ("a..b[2].c", true, vec![field("a"), Step::Below, field("b"), Step::Element(2), field("c")]),
        ] {
            let path = BodyPath::read(text).unwrap();
            assert_eq!((path.is_list(), path.steps()), (is_list, &*steps), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let (long, deep) = ("a".repeat(BODY_PATH_BYTES_MAX + 1), ["a"; BODY_PATH_STEPS_MAX + 1].join("."));
        for text in [
            "",
            ".a",
            "..a",
            "a.",
            "a..",
            "a...b",
            "a..b..c",
            "messages[.content[*].type",
            "a[",
            "a[]",
            "a[-1]",
            "a[1:2]",
            "a[0,1]",
            "a[?(@.b)]",
            "a['b",
            "a.[0]",
            "a b",
            "a]b",
            "a[99999999999999999999]",
            &long,
            &deep,
        ] {
            let reason = BodyPath::read(text).unwrap_err();
            assert!(reason.starts_with("invalid expression"), "{text}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_refused(text in "[ab.\\[\\]*'\"0-9 é]{0,40}") {
            if let Ok(path) = BodyPath::read(&text) {
                prop_assert!(!path.steps().is_empty() && path.steps().len() <= BODY_PATH_STEPS_MAX);
                prop_assert_ne!(path.steps().last(), Some(&Step::Below));
            }
        }
    }
}
