//! A regular expression and what stands in place of what it finds, in texts that may be long: bodies of answers.
//!
//! Places are found by two tables (one forward for where a match ends, one backward for where it begins); groups are looked for only inside
//! of a match, and only where the text asks for any. What comes out is bounded, since a text may be put in a million places, and so is the
//! work: a pattern such as `a.*z|a` looks at all that follows for each place it finds, which no look at the pattern tells for sure. So each
//! byte that a table steps over is counted as it does, and who has no steps left is told so. As with other patterns, bytes are matched, and
//! what only PCRE has is refused.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, dense, regex};
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use crate::limits::{GROUP_SEARCH_STEPS, PATTERN_AUTOMATON_BYTES_MAX};
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

    /// The bytes with what is put in; `None` where nothing was found. An error: it would be more than `bytes_max`, or take more steps than
    /// are left; those it takes are taken off.
    pub fn apply(
        &self,
        bytes: &[u8],
        bytes_max: usize,
        steps_left: &mut u64,
    ) -> Result<Option<Vec<u8>>, Unfiltered> {
        let mut search = self.groups.as_ref().map(|vm| (vm, vm.create_cache(), vm.create_captures()));
        let (mut out, mut at, mut found) = (Vec::new(), 0, false);
        let mut places = Places { tables: &self.places, bytes, from: 0, last_end: None };
        while let Some(place) = places.next(steps_left)? {
            if !found {
                out.reserve(bytes.len());
                found = true;
            }
            out.extend_from_slice(bytes.get(at..place.start).unwrap_or_default());
            at = place.end;
            match &mut search {
                None => out.extend_from_slice(self.template.as_bytes()),
                Some((vm, cache, captures)) => {
                    // Each byte costs at most a step of each state.
                    let states = vm.get_nfa().states().len() as u64;
                    let steps =
                        (place.len() as u64).saturating_mul(states).saturating_add(GROUP_SEARCH_STEPS);
                    pay(steps_left, steps)?;
                    let input = Input::new(bytes).span(place).anchored(Anchored::Yes);
                    vm.search(cache, &input, captures);
                    expand(&self.template, |group| bytes.get(captures.get_group(group)?.range()), &mut out);
                }
            }
            if out.len() > bytes_max {
                return Err(Unfiltered::TooLong);
            }
            if !self.everywhere {
                break;
            }
        }
        out.extend_from_slice(bytes.get(at..).unwrap_or_default());
        if out.len() > bytes_max { Err(Unfiltered::TooLong) } else { Ok(found.then_some(out)) }
    }
}

/// Why there is nothing that could be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfiltered {
    /// It would be more than it may be.
    TooLong,
    /// It would take more steps than there were.
    TooCostly,
}

/// The places that a pattern finds, each behind the one before. The same as regex-automata's own, but that steps are counted.
struct Places<'a> {
    tables: &'a regex::Regex,
    bytes: &'a [u8],
    from: usize,
    last_end: Option<usize>,
}

impl Places<'_> {
    fn next(&mut self, steps_left: &mut u64) -> Result<Option<Range<usize>>, Unfiltered> {
        loop {
            let Some(end) = self.end(steps_left)? else { return Ok(None) };
            let start = if end == self.from { end } else { self.start(end, steps_left)? };
            if start == end && self.last_end == Some(end) {
                // Nothing directly behind a place is no other one.
                if self.from >= self.bytes.len() {
                    return Ok(None);
                }
                self.from += 1;
                continue;
            }
            (self.from, self.last_end) = (end, Some(end));
            return Ok(Some(start..end));
        }
    }

    /// Where the next match ends. A table says that only with the byte behind it.
    fn end(&self, steps_left: &mut u64) -> Result<Option<usize>, Unfiltered> {
        let table = self.tables.forward();
        let input = Input::new(self.bytes).range(self.from..);
        // An error would need a byte that ends the search, and no table of ours has one.
        let Ok(mut state) = table.start_state_forward(&input) else { return Ok(None) };
        let allowed = usize::try_from(*steps_left).unwrap_or(usize::MAX);
        let seen = self.bytes.get(..self.from.saturating_add(allowed)).unwrap_or(self.bytes);
        let (mut at, mut end) = (self.from, None);
        while let Some(byte) = seen.get(at) {
            state = table.next_state(state, *byte);
            if table.is_special_state(state) {
                if table.is_match_state(state) {
                    end = Some(at);
                } else if table.is_accel_state(state) {
                    // Whatever is skipped would lead here again.
                    let rest = seen.get(at + 1..).unwrap_or_default();
                    at += first_of(table.accelerator(state), rest).unwrap_or(rest.len());
                } else if table.is_dead_state(state) {
                    pay(steps_left, (at - self.from) as u64 + 1)?;
                    return Ok(end);
                }
            }
            at += 1;
        }
        pay(steps_left, (self.bytes.len() - self.from) as u64 + 1)?;
        let state = table.next_eoi_state(state);
        Ok(if table.is_match_state(state) { Some(self.bytes.len()) } else { end })
    }

    /// Where the match that ends there begins: as far in front as it can.
    fn start(&self, end: usize, steps_left: &mut u64) -> Result<usize, Unfiltered> {
        let table = self.tables.reverse();
        let input = Input::new(self.bytes).range(self.from..end).anchored(Anchored::Yes);
        let Ok(mut state) = table.start_state_reverse(&input) else { return Ok(end) };
        let span = self.bytes.get(self.from..end).unwrap_or_default();
        // No more than what has been stepped over forward just before.
        pay(steps_left, span.len() as u64 + 1)?;
        let mut start = end;
        for (offset, byte) in span.iter().enumerate().rev() {
            state = table.next_state(state, *byte);
            if table.is_special_state(state) {
                if table.is_match_state(state) {
                    start = self.from + offset + 1;
                } else if table.is_dead_state(state) {
                    return Ok(start);
                }
            }
        }
        let before = self.from.checked_sub(1).and_then(|at| self.bytes.get(at));
        let state = before.map_or_else(|| table.next_eoi_state(state), |byte| table.next_state(state, *byte));
        Ok(if table.is_match_state(state) { self.from } else { start })
    }
}

/// Where the first of up to three bytes is.
fn first_of(bytes: &[u8], text: &[u8]) -> Option<usize> {
    match *bytes {
        [one] => memchr::memchr(one, text),
        [one, two] => memchr::memchr2(one, two, text),
        [one, two, three] => memchr::memchr3(one, two, three, text),
        // Not that there are others.
        _ => text.iter().position(|byte| bytes.contains(byte)),
    }
}

fn pay(steps_left: &mut u64, steps: u64) -> Result<(), Unfiltered> {
    let left = steps_left.checked_sub(steps);
    *steps_left = left.unwrap_or(0);
    left.map(|_| ()).ok_or(Unfiltered::TooCostly)
}

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
    use proptest::prelude::*;

    use super::*;

    fn replaced(text: &str, options: &str, template: &str, everywhere: bool, bytes: &str) -> String {
        let options = Options::read(options).unwrap();
        let replacement = Replacement::new(text, options, template, everywhere).unwrap();
        let out = replacement.apply(bytes.as_bytes(), 1_000, &mut 100_000).unwrap();
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
        assert_eq!(everywhere.apply(&[b'x'; 10], 1_000, &mut 1_000).unwrap().unwrap().len(), 1_000);
        assert_eq!(everywhere.apply(&[b'x'; 11], 1_000, &mut 1_000), Err(Unfiltered::TooLong));
        assert_eq!(everywhere.apply(&[b'a'; 1_001], 1_000, &mut 2_000), Err(Unfiltered::TooLong));
    }

    /// Steps that it takes.
    fn steps(text: &str, template: &str, bytes: &[u8]) -> u64 {
        let mut left = u64::MAX;
        Replacement::new(text, Options::default(), template, true)
            .unwrap()
            .apply(bytes, 1 << 20, &mut left)
            .unwrap();
        u64::MAX - left
    }

    #[test]
    fn a_pattern_that_looks_at_all_that_follows_for_each_place_runs_out_of_steps() {
        let bytes = [b'a'; 10_000];
        assert!(steps("a", "b", &bytes) < 6 * 10_000);
        assert!(steps("z", "b", &bytes) <= 10_001);
        assert!(steps("a.*z|a", "b", &bytes[..2_000]) > 2_000 * 2_000 / 2);
        let costly = Replacement::new("a.*z|a", Options::default(), "b", true).unwrap();
        for allowed in [0, 1, 10_000, 1_000_000] {
            let mut left = allowed;
            assert_eq!(costly.apply(&bytes, 1 << 20, &mut left), Err(Unfiltered::TooCostly), "{allowed}");
            assert_eq!(left, 0);
        }
        // Groups of long matches, and of many.
        assert!(steps("(?s)(.*)", "$1", &bytes) > 2 * 10_000);
        assert!(steps("(a)", "$1", &bytes) > GROUP_SEARCH_STEPS * 10_000);
    }

    proptest! {
        #[test]
        fn the_places_are_those_of_the_library(
            text in prop::sample::select(vec![
                "a", "a*", "a|ab", "ab|a", "a.*z|a", "\\b", "\\ba", "a\\b", "^a?", "a?$", "(?m)^", "(?m)$", "", "[ab]{2,3}", "a+?", "(a|b)*z",
                "b*", "(?s).", "a$|b", "\\Bz", "zab", "z b|bz",
            ]),
            bytes in "[abz \\n]{0,24}",
        ) {
            let replacement = Replacement::new(text, Options::default(), "", true).unwrap();
            let mut places = Places { tables: &replacement.places, bytes: bytes.as_bytes(), from: 0, last_end: None };
            let found: Vec<_> = std::iter::from_fn(|| places.next(&mut 1_000_000).unwrap()).collect();
            let known: Vec<_> = replacement.places.find_iter(bytes.as_bytes()).map(|place| place.range()).collect();
            prop_assert_eq!(found, known, "{}", text);
        }
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
