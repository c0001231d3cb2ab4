//! Regular expressions of the configuration: what it means to match one, and what they may cost.
//!
//! A pattern is compiled to a table (a dense automaton), so that matching is one step a byte whatever the pattern, and so that cores
//! share nothing that changes: no cache, no lock. What such a table cannot hold in its bounds is refused, as is what only PCRE has
//! (look-around, back-references). Bytes are matched, as nginx does without its UTF flag: `.` is one byte, `\w` and `\d` are ASCII.

use std::fmt;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use crate::limits::{
    PATTERN_AUTOMATON_BYTES_MAX, PATTERN_GROUPS_BYTES_MAX, PATTERN_TEXT_BYTES_MAX, TEMPLATE_VARIABLES_MAX,
};

/// A compiled regular expression.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    ignores_case: bool,
    table: Arc<dense::DFA<Vec<u32>>>,
}

impl Pattern {
    /// Compiles one. The error says what is wrong with it.
    pub fn new(text: &str, ignores_case: bool) -> Result<Pattern, String> {
        let nfa = nfa(text, plain(ignores_case), WhichCaptures::None)?;
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(PATTERN_AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(PATTERN_AUTOMATON_BYTES_MAX));
        let table = dense::Builder::new().configure(config).build_from_nfa(&nfa);
        let table = table.map_err(|_| too_large())?;
        Ok(Pattern { text: text.into(), ignores_case, table: Arc::new(table) })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it occurs anywhere in the bytes.
    pub fn occurs_in(&self, bytes: &[u8]) -> bool {
        let input = Input::new(bytes).anchored(Anchored::No).earliest(true);
        // An error would need a byte that ends the search, and no table of ours has one.
        self.table.try_search_fwd(&input).is_ok_and(|end| end.is_some())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        (&self.text, self.ignores_case) == (&other.text, other.ignores_case)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", if self.ignores_case { "(?i)" } else { "" }, self.text)
    }
}

/// A pattern whose groups are asked for, to write something new of what it matched.
#[derive(Clone)]
pub struct Rewriting {
    pattern: Pattern,
    groups: Arc<PikeVM>,
}

impl Rewriting {
    /// Compiles one. The error says what is wrong with it.
    pub fn new(text: &str) -> Result<Rewriting, String> {
        let pattern = Pattern::new(text, false)?;
        Ok(Rewriting { pattern, groups: groups(text, plain(false))? })
    }

    /// The pattern as such.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Appends `template` with `$1` and `${1}` for the groups of the first place where the pattern occurs (`$0`: all of it), and
    /// what stands before and behind that place where `around` is set. `false`: it occurs nowhere, and nothing was appended.
    pub fn write(&self, bytes: &[u8], template: &str, around: bool, out: &mut Vec<u8>) -> bool {
        if !self.pattern.occurs_in(bytes) {
            return false;
        }
        let mut cache = self.groups.create_cache();
        let mut found = self.groups.create_captures();
        self.groups.search(&mut cache, &Input::new(bytes), &mut found);
        let Some(whole) = found.get_group(0) else { return false };
        if around {
            out.extend_from_slice(bytes.get(..whole.start).unwrap_or_default());
        }
        expand(template, |group| bytes.get(found.get_group(group)?.range()), out);
        if around {
            out.extend_from_slice(bytes.get(whole.end..).unwrap_or_default());
        }
        true
    }
}

impl PartialEq for Rewriting {
    fn eq(&self, other: &Rewriting) -> bool {
        self.pattern == other.pattern
    }
}

impl fmt::Debug for Rewriting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

/// Refuses a template that could make more of a request than is to be held for one.
pub(crate) fn check_template(template: &str) -> Result<(), String> {
    if template.matches('$').count() > TEMPLATE_VARIABLES_MAX {
        return Err(format!("has more than {TEMPLATE_VARIABLES_MAX} groups"));
    }
    Ok(())
}

/// Writes a template's text and groups; `$$` is a dollar sign, and a group that took no part is nothing.
pub(crate) fn expand<'b>(template: &str, group: impl Fn(usize) -> Option<&'b [u8]>, out: &mut Vec<u8>) {
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        let (text, after) = rest.split_at(at);
        out.extend_from_slice(text.as_bytes());
        let after = after.get(1..).unwrap_or_default();
        let (name, behind) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(split) => split,
            None => {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                after.split_at(digits)
            }
        };
        rest = match name.parse() {
            Ok(number) => {
                out.extend_from_slice(group(number).unwrap_or_default());
                behind
            }
            Err(_) => {
                out.push(b'$');
                after.strip_prefix('$').unwrap_or(after)
            }
        };
    }
    out.extend_from_slice(rest.as_bytes());
}

/// What finds a pattern's groups.
pub(crate) fn groups(text: &str, syntax: syntax::Config) -> Result<Arc<PikeVM>, String> {
    let nfa = nfa(text, syntax, WhichCaptures::All)?;
    // Each search has a place for each group's two ends in each state.
    let ends = nfa.states().len().saturating_mul(nfa.group_info().slot_len());
    let bytes = ends.saturating_mul(size_of::<usize>());
    if bytes > PATTERN_GROUPS_BYTES_MAX {
        return Err(format!(
            "finding the regular expression's groups would take {bytes} bytes for each request; the limit is {PATTERN_GROUPS_BYTES_MAX}: write fewer groups, (?:...) where none is used, or smaller repetitions"
        ));
    }
    let groups = PikeVM::builder().build_from_nfa(nfa).map_err(|_| too_large())?;
    Ok(Arc::new(groups))
}

fn plain(ignores_case: bool) -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false).case_insensitive(ignores_case)
}

/// Parses a pattern and makes its states. Every pattern comes by here first, so that all are refused in the same words.
pub(crate) fn nfa(
    text: &str,
    syntax: syntax::Config,
    groups: WhichCaptures,
) -> Result<thompson::NFA, String> {
    if text.len() > PATTERN_TEXT_BYTES_MAX {
        return Err(format!(
            "the regular expression has {} bytes; the limit is {PATTERN_TEXT_BYTES_MAX}",
            text.len()
        ));
    }
    let parsed = syntax::parse_with(text, &syntax).map_err(|error| reason(&error))?;
    let config = thompson::Config::new()
        .utf8(false)
        .which_captures(groups)
        .nfa_size_limit(Some(PATTERN_AUTOMATON_BYTES_MAX));
    thompson::Compiler::new().configure(config).build_from_hir(&parsed).map_err(|_| too_large())
}

/// The parser shows the place in several lines; what is wrong is one.
fn reason(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => format!("the regular expression is wrong: {}", error.kind()),
        regex_syntax::Error::Translate(error) => format!("the regular expression is wrong: {}", error.kind()),
        other => format!("the regular expression is wrong: {other}"),
    }
}

pub(crate) fn too_large() -> String {
    format!(
        "the regular expression would take more than {PATTERN_AUTOMATON_BYTES_MAX} bytes when compiled; write smaller repetitions"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_anywhere_and_as_bytes() {
        for (text, ignores_case, matches, others) in [
            ("an+d", false, "x android", "x ANDROID"),
            ("ANDROID", true, "x Android", "x ios"),
            ("^/a/\\d+$", false, "/a/12", "/a/12/"),
            ("\\bfoo\\b", false, "a foo b", "afoo"),
            ("^$", false, "", "x"),
            ("\\/v1\\/(a|b)", false, "/v1/b", "/v1/c"),
        ] {
            let pattern = Pattern::new(text, ignores_case).unwrap();
            assert!(pattern.occurs_in(matches.as_bytes()), "{text} {matches}");
            assert!(!pattern.occurs_in(others.as_bytes()), "{text} {others}");
        }
        assert!(Pattern::new("^.$", false).unwrap().occurs_in(&[0xff]));
    }

    #[test]
    fn what_only_pcre_has_is_told_by_its_name() {
        assert!(Pattern::new("a(?=b)", false).unwrap_err().contains("look-ahead"));
        assert!(Pattern::new("(a)\\1", false).unwrap_err().contains("backreferences"));
        assert!(Pattern::new("a(", false).unwrap_err().contains("unclosed group"));
    }

    #[test]
    fn what_would_grow_without_bound_is_refused() {
        for text in ["a.{40}b".to_owned(), "x{1000}{1000}".to_owned(), "a".repeat(PATTERN_TEXT_BYTES_MAX + 1)]
        {
            assert!(Pattern::new(&text, true).is_err(), "{}", text.len());
        }
    }

    #[test]
    fn groups_whose_search_would_take_much_memory_are_refused() {
        assert!(Rewriting::new("^/api/v([0-9]+)/users/([a-z0-9-]{1,36})/orders/([^/]+)/(.*)$").is_ok());
        let many = "()".repeat(2_000);
        assert!(Pattern::new(&many, false).is_ok());
        assert!(Rewriting::new(&many).unwrap_err().contains("groups"));
        assert!(Rewriting::new(&"(?:)".repeat(1_000)).is_ok());
    }

    #[test]
    fn groups_are_written_into_a_template() {
        let write = |text: &str, bytes: &str, template: &str, around: bool| {
            let mut out = Vec::new();
            let found = Rewriting::new(text).unwrap().write(bytes.as_bytes(), template, around, &mut out);
            found.then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(write("^/a/(.*)/(.*)", "/a/b/c", "/$2/${1}x$0$$", false).unwrap(), "/c/bx/a/b/c$");
        assert_eq!(write("b(x)?", "abc", "[$1]", true).unwrap(), "a[]c");
        assert_eq!(write("z", "abc", "$0", true), None);
    }
}
