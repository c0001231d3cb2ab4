//! A regular expression and what stands in place of what it finds, in texts that may be long: bodies of answers.
//!
//! Places are found by two tables (one forward for where a match ends, one backward for where it begins), so that a body of a
//! megabyte takes a millisecond or two; groups are looked for only inside of a match, and only where the text asks for any, which takes half
//! a microsecond for each. What comes out is bounded, since a text may be put in a million places. As with other patterns, bytes are
//! matched, and what only PCRE has is refused.

use std::fmt;
use std::sync::Arc;

use regex_automata::dfa::{dense, regex};
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use crate::limits::PATTERN_AUTOMATON_BYTES_MAX;
use crate::pattern::{check_template, expand, groups, nfa, too_large};

/// See the module.
#[derive(Clone)]
pub struct Replacement {
    text: Box<str>,
    options: Options,
    places: Arc<regex::Regex>,
    /// `None`: the template names no group.
    groups: Option<Arc<PikeVM>>,
    template: Box<str>,
    everywhere: bool,
}

/// How a pattern is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// `i`
    pub ignores_case: bool,
    /// `s`: a dot is also a line's end.
    pub dot_is_all: bool,
    /// `m`: `^` and `$` stand at each line.
    pub by_line: bool,
    /// `x`: white space in the pattern means nothing.
    pub extended: bool,
}

impl Options {
    /// Reads PCRE's letters; `j` and `o` say how nginx is to compile, and mean nothing here.
    pub fn read(letters: &str) -> Result<Options, String> {
        let mut options = Options::default();
        for letter in letters.chars() {
            match letter {
                'i' => options.ignores_case = true,
                's' => options.dot_is_all = true,
                'm' => options.by_line = true,
                'x' => options.extended = true,
                'j' | 'o' => {}
                other => {
                    return Err(format!(
                        "the option {other:?} is not supported by this release: i, s, m, x, j, o"
                    ));
                }
            }
        }
        Ok(options)
    }

    pub(crate) fn syntax(self) -> syntax::Config {
        syntax::Config::new()
            .unicode(false)
            .utf8(false)
            .case_insensitive(self.ignores_case)
            .dot_matches_new_line(self.dot_is_all)
            .multi_line(self.by_line)
            .ignore_whitespace(self.extended)
    }
}

impl Replacement {
    /// Compiles one. `template` has `$1` and `${1}` for groups, `$0` for the match; `everywhere`: not only the first place.
    pub fn new(
        text: &str,
        options: Options,
        template: &str,
        everywhere: bool,
    ) -> Result<Replacement, String> {
        check_template(template)?;
        nfa(text, options.syntax(), WhichCaptures::None)?;
        let groups = if template.contains('$') { Some(groups(text, options.syntax())?) } else { None };
        let tables = dense::Config::new()
            .dfa_size_limit(Some(PATTERN_AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(PATTERN_AUTOMATON_BYTES_MAX));
        let compiler = thompson::Config::new().utf8(false).nfa_size_limit(Some(PATTERN_AUTOMATON_BYTES_MAX));
        let mut builder = regex::Builder::new();
        builder.syntax(options.syntax()).thompson(compiler).dense(tables);
        let places = builder.build(text).map_err(|_| too_large())?;
        Ok(Replacement {
            text: text.into(),
            options,
            places: Arc::new(places),
            groups,
            template: template.into(),
            everywhere,
        })
    }

    /// The bytes with what is put in; `None` where nothing was found. An error: it would be more than `bytes_max`.
    pub fn apply(&self, bytes: &[u8], bytes_max: usize) -> Result<Option<Vec<u8>>, TooLong> {
        let places = self.places.find_iter(bytes).take(if self.everywhere { usize::MAX } else { 1 });
        let mut search = self.groups.as_ref().map(|vm| (vm, vm.create_cache(), vm.create_captures()));
        let (mut out, mut at, mut found) = (Vec::new(), 0, false);
        for place in places {
            if !found {
                out.reserve(bytes.len());
                found = true;
            }
            out.extend_from_slice(bytes.get(at..place.start()).unwrap_or_default());
            at = place.end();
            match &mut search {
                None => out.extend_from_slice(self.template.as_bytes()),
                Some((vm, cache, captures)) => {
                    let input = Input::new(bytes).span(place.range()).anchored(Anchored::Yes);
                    vm.search(cache, &input, captures);
                    expand(&self.template, |group| bytes.get(captures.get_group(group)?.range()), &mut out);
                }
            }
            if out.len() > bytes_max {
                return Err(TooLong);
            }
        }
        out.extend_from_slice(bytes.get(at..).unwrap_or_default());
        if out.len() > bytes_max { Err(TooLong) } else { Ok(found.then_some(out)) }
    }
}

/// What would come out is more than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl PartialEq for Replacement {
    fn eq(&self, other: &Replacement) -> bool {
        (&self.text, self.options, &self.template, self.everywhere)
            == (&other.text, other.options, &other.template, other.everywhere)
    }
}

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{:?}", self.text, self.template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, options: &str, template: &str, everywhere: bool, bytes: &str) -> String {
        let options = Options::read(options).unwrap();
        let replacement = Replacement::new(text, options, template, everywhere).unwrap();
        let out = replacement.apply(bytes.as_bytes(), 1_000).unwrap();
        out.map_or_else(|| "-".to_owned(), |out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn one_place_or_all_are_replaced() {
        assert_eq!(replaced("hello", "jo", "bye", false, "hello hello"), "bye hello");
        assert_eq!(replaced("hello", "jo", "bye", true, "hello hello\n"), "bye bye\n");
        assert_eq!(replaced("HELLO", "i", "bye", true, "hello Hello"), "bye bye");
        assert_eq!(replaced("z", "", "y", true, "abc"), "-");
        assert_eq!(replaced("(\\d+)-(\\d+)", "", "$2:${1}$$$0", true, "1-2 30-4"), "2:1$1-2 4:30$30-4");
        assert_eq!(replaced("x*", "", "-", true, "abc"), "-a-b-c-");
        assert_eq!(replaced("\\bfoo\\b", "", "[$0]", true, "afoo foo foob"), "afoo [foo] foob");
        assert_eq!(replaced("^a", "m", "b", true, "a\na"), "b\nb");
        assert_eq!(replaced("^a", "", "b", true, "a\na"), "b\na");
        assert_eq!(replaced("a.b", "s", "", true, "a\nb"), "");
        assert_eq!(replaced("a b # nothing", "x", "c", true, "ab"), "c");
    }

    #[test]
    fn what_comes_out_is_bounded() {
        let template = "y".repeat(100);
        let everywhere = Replacement::new("x", Options::default(), &template, true).unwrap();
        assert_eq!(everywhere.apply(&[b'x'; 10], 1_000).unwrap().unwrap().len(), 1_000);
        assert_eq!(everywhere.apply(&[b'x'; 11], 1_000), Err(TooLong));
        assert_eq!(everywhere.apply(&[b'a'; 1_001], 1_000), Err(TooLong));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert!(Options::read("ju").unwrap_err().contains("'u'"));
        let new = |text: &str, template: &str| Replacement::new(text, Options::default(), template, true);
        assert!(new("a(", "").unwrap_err().contains("unclosed group"));
        assert!(new("(?<=a)b", "").unwrap_err().contains("look-behind"));
        assert!(new("a.{40}b.{40}", "").unwrap_err().contains("bytes when compiled"));
        assert!(new("a", &"$1".repeat(300)).is_err());
    }
}
