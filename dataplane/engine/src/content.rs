//! A request's content, read for conditions on it (`post_arg_NAME`, `post_arg.PATH`): a form, the parts of a form, or JSON.
//!
//! It is read once into a tree of values, and then as many conditions as there are ask it. What cannot be read (another media type, no
//! JSON, too many values, nested too deep) has no values at all, as with APISIX. Of a form's fields that repeat, `post_arg_NAME` is the first
//! and a path sees the list of all; of parts and of JSON's fields that repeat the last one counts.
//!
//! Invariants: no panic on any bytes; reading is linear in them, but for sorting the names of one object; at most [`VALUES_MAX`] values,
//! [`DEPTH_MAX`] deep; all questions about one content together take at most [`STEPS_MAX`] steps, and after that nothing is found.

mod form;
mod json;
mod multipart;

use std::cell::Cell;
use std::collections::BTreeMap;

use ringway_snapshot::BodyPath;
use ringway_snapshot::body_path::Step;
use smallvec::{SmallVec, smallvec};

/// Values of one content.
pub const VALUES_MAX: usize = 16_384;
/// How deep JSON may be nested: what serde_json allows.
pub const DEPTH_MAX: usize = 127;
/// Values that are looked at for all conditions on one content. A regular expression's look at a text counts as one for every
/// [`TEXT_BYTES_PER_STEP`] of it.
pub const STEPS_MAX: u32 = 1 << 19;
/// See [`STEPS_MAX`].
pub const TEXT_BYTES_PER_STEP: usize = 16;

/// How content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`.
    Multipart,
    /// `application/json`.
    Json,
}

/// See the module.
#[derive(Debug)]
pub struct Content {
    root: Value,
    kind: ContentKind,
    steps_left: Cell<u32>,
}

/// One value of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// JSON's null, which counts as if it were not there.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text. Of a form it need not be UTF-8.
    Text(Box<[u8]>),
    /// A list.
    List(Vec<Value>),
    /// An object, a form's fields or parts.
    Fields(BTreeMap<Box<[u8]>, Value>),
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<'a> {
    /// Nothing.
    Nothing,
    /// The value at the end of a plain path.
    One(&'a Value),
    /// The values of a path that stands for a list: one at least.
    List(SmallVec<[&'a Value; 4]>),
}

impl ContentKind {
    /// By the value of Content-Type; `None`: it is not looked into. As APISIX, a longer name counts for the one that it begins with
    /// (`application/json-patch+json`), in any case.
    pub fn of(content_type: &[u8]) -> Option<ContentKind> {
        let is = |name: &str| {
            content_type.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        };
        match () {
            () if is("application/json") => Some(ContentKind::Json),
            () if is("application/x-www-form-urlencoded") => Some(ContentKind::Form),
            () if is("multipart/form-data") => Some(ContentKind::Multipart),
            () => None,
        }
    }
}

impl Content {
    /// Reads content of that type; `None` where it is not what it says.
    pub fn read(content_type: &[u8], bytes: &[u8]) -> Option<Content> {
        let kind = ContentKind::of(content_type)?;
        let root = match kind {
            ContentKind::Form => form::read(bytes),
            ContentKind::Multipart => multipart::read(content_type, bytes),
            ContentKind::Json => json::read(bytes),
        }?;
        Some(Content { root, kind, steps_left: Cell::new(STEPS_MAX) })
    }

    /// `post_arg_NAME`: the first field of that name, of a form alone.
    pub fn form_field(&self, name: &[u8]) -> Option<&[u8]> {
        let (Value::Fields(fields), ContentKind::Form) = (&self.root, self.kind) else { return None };
        self.pays(1).then_some(())?;
        match fields.get(name)? {
            Value::Text(text) => Some(text),
            Value::List(list) => list.first().and_then(Value::text),
            _ => None,
        }
    }

    /// What a path leads to.
    pub fn find(&self, path: &BodyPath) -> Found<'_> {
        if path.is_list() { self.list(path) } else { self.walk(path).map_or(Found::Nothing, Found::One) }
    }

    /// Whether so many steps more are allowed; they are then taken.
    pub fn pays(&self, steps: usize) -> bool {
        let left = u32::try_from(steps).ok().and_then(|steps| self.steps_left.get().checked_sub(steps));
        self.steps_left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// The value at the end of a path of names.
    fn walk(&self, path: &BodyPath) -> Option<&Value> {
        self.pays(path.steps().len()).then_some(())?;
        let mut value = &self.root;
        for step in path.steps() {
            let (Value::Fields(fields), Step::Field(name)) = (value, step) else { return None };
            value = fields.get(name.as_bytes())?;
        }
        (*value != Value::Null).then_some(value)
    }

    fn list(&self, path: &BodyPath) -> Found<'_> {
        let mut found: SmallVec<[&Value; 4]> = smallvec![&self.root];
        for step in path.steps() {
            let mut next = SmallVec::new();
            for value in found {
                if !self.follow(value, step, &mut next) {
                    return Found::Nothing;
                }
            }
            found = next;
        }
        if found.is_empty() { Found::Nothing } else { Found::List(found) }
    }

    /// Appends what a step leads to from here. `false`: that is more than is allowed.
    fn follow<'v>(&self, value: &'v Value, step: &Step, next: &mut SmallVec<[&'v Value; 4]>) -> bool {
        match (step, value) {
            (Step::Field(name), Value::Fields(fields)) => next.extend(fields.get(name.as_bytes())),
            (Step::Element(place), Value::List(list)) => next.extend(list.get(*place)),
            (Step::Every, Value::List(list)) => next.extend(list),
            (Step::Every, Value::Fields(fields)) => next.extend(fields.values()),
            (Step::Below, value) => {
                let before = next.len();
                value.below(next);
                return self.pays(next.len() - before);
            }
            _ => {}
        }
        let many = match (step, value) {
            (Step::Every, Value::List(list)) => list.len(),
            (Step::Every, Value::Fields(fields)) => fields.len(),
            _ => 0,
        };
        self.pays(many + 1)
    }
}

impl Value {
    /// Its text, if that is what it is.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Itself and all that lies in it, each once. As deep as it is nested.
    fn below<'v>(&'v self, all: &mut SmallVec<[&'v Value; 4]>) {
        all.push(self);
        match self {
            Value::List(list) => list.iter().for_each(|value| value.below(all)),
            Value::Fields(fields) => fields.values().for_each(|value| value.below(all)),
            _ => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};

    use super::*;

    const FORM: &[u8] = b"application/x-www-form-urlencoded; charset=utf-8";
    const JSON: &[u8] = b"Application/JSON";

    fn path(text: &str) -> BodyPath {
        BodyPath::read(text).unwrap()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.as_bytes().into())
    }

    /// What paths lead to, as text.
    fn shown(content: &Content, at: &str) -> String {
        match content.find(&path(at)) {
            Found::Nothing => "nothing".into(),
            Found::One(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            Found::One(value) => format!("{value:?}"),
            Found::List(list) => {
                let one = |value: &&Value| match value.text() {
                    Some(text) => String::from_utf8_lossy(text).into_owned(),
                    None => format!("{value:?}"),
                };
                format!("[{}]", list.iter().map(one).collect::<Vec<_>>().join(","))
            }
        }
    }

    #[test]
    fn only_three_media_types_are_looked_into() {
        assert_eq!(ContentKind::of(FORM), Some(ContentKind::Form));
        assert_eq!(ContentKind::of(JSON), Some(ContentKind::Json));
        assert_eq!(ContentKind::of(b"multipart/form-data; boundary=x"), Some(ContentKind::Multipart));
        for other in [&b""[..], b"text/plain", b"application/jso", b"text/plain; a=application/json"] {
            assert_eq!(ContentKind::of(other), None);
        }
    }

    #[test]
    fn of_a_forms_fields_a_name_is_the_first_and_a_path_the_list_of_all() {
        let content = Content::read(FORM, b"k=a%20b+c&k=2&empty=&bare&model=openai&m[0][r]=x&k=3").unwrap();
        assert_eq!(content.form_field(b"k"), Some(&b"a b c"[..]));
        assert_eq!(content.form_field(b"bare"), Some(&b""[..]));
        assert_eq!(content.form_field(b"m[0][r]"), Some(&b"x"[..]));
        assert_eq!(content.form_field(b"none"), None);
        assert_eq!(shown(&content, "model"), "openai");
        let all = Value::List(vec![text("a b c"), text("2"), text("3")]);
        assert_eq!(content.find(&path("k")), Found::One(&all));
        assert_eq!(shown(&content, "k[*]"), "[a b c,2,3]");
        assert_eq!(shown(&content, "m[0]"), "nothing");
    }

    #[test]
    fn paths_lead_through_json() {
        let body = br#"{"model": {"name": "m", "name": "n"}, "n": 0.5, "no": null, "list": [{"t": "a"}, {"t": "b", "u": [{"t": "c"}]}], "a\u00e9": true}"#;
        let content = Content::read(JSON, body).unwrap();
        for (at, want) in [
            ("model.name", "n"),
            ("n", "Number(0.5)"),
            ("no", "nothing"),
            ("no.more", "nothing"),
            ("list.t", "nothing"),
            ("list.0", "nothing"),
            ("aé", "Bool(true)"),
            ("list[*].t", "[a,b]"),
            ("list[1].t", "[b]"),
            ("list[2].t", "nothing"),
            ("list..t", "[a,b,c]"),
            ("model.*", "[n]"),
            ("*[0].t", "[a]"),
        ] {
            assert_eq!(shown(&content, at), want, "{at}");
        }
        assert_eq!(content.form_field(b"n"), None);
    }

    #[test]
    fn what_is_not_what_it_says_has_no_values() {
        for bytes in [&b""[..], b"{", b"{} {}", b"\xff", b"{\"a\": \xff}", b"{'a': 1}", b"nul"] {
            assert!(Content::read(JSON, bytes).is_none(), "{bytes:?}");
        }
        assert!(Content::read(b"text/plain", b"a=b").is_none());
        let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        assert!(Content::read(JSON, &deep(DEPTH_MAX)).is_some());
        assert!(Content::read(JSON, &deep(DEPTH_MAX + 1)).is_none());
    }

    #[test]
    fn more_values_than_the_limit_are_none() {
        let list = |values: usize| format!("[{}]", vec!["0"; values].join(","));
        // The list is one itself.
        assert!(Content::read(JSON, list(VALUES_MAX - 1).as_bytes()).is_some());
        assert!(Content::read(JSON, list(VALUES_MAX).as_bytes()).is_none());
        assert!(Content::read(FORM, "a=1&".repeat(VALUES_MAX - 1).as_bytes()).is_some());
        assert!(Content::read(FORM, "a=1&".repeat(VALUES_MAX + 1).as_bytes()).is_none());
    }

    #[test]
    fn all_questions_together_take_no_more_than_their_steps() {
        let list = format!("{{\"a\": [{}]}}", vec!["1"; 10_000].join(","));
        let content = Content::read(JSON, list.as_bytes()).unwrap();
        let all = path("a[*]");
        let answered = (0..1_000).filter(|_| content.find(&all) != Found::Nothing).count();
        assert!((50..=52).contains(&answered), "{answered}");
        assert_eq!(content.find(&path("a")), Found::Nothing);
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"b\"",
            "1",
            "null",
            "true",
            "\"",
            "\\u00",
            "\\",
            "a=1",
            "&",
            "=",
            "%4",
            "%41",
            "+",
            "--x",
            "--x--",
            "\r\n",
            "\n",
            "\r\n\r\n",
            "Content-Disposition: form-data; name=\"a\"",
            "; name=b",
            "name=",
            "\u{e9}",
        ]);
        prop_oneof![
            prop::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        #[test]
        fn nothing_panics_and_questions_are_always_answered(bytes in bytes(), kind in 0usize..3) {
            let kinds = [FORM, JSON, b"multipart/form-data; boundary=x"];
            if let Some(content) = Content::read(kinds[kind], &bytes) {
                for at in ["a", "a.b", "a[*]", "a[0].b", "a..b", "*"] {
                    let _ = content.find(&path(at));
                }
                let _ = content.form_field(b"a");
            }
        }
    }
}
