//! Rust source as the house rules see it: without comments and the contents of strings.
//!
//! Not a parser: it knows just enough of the language to find braces, words and functions. Lines keep their numbers.

/// One file.
pub(crate) struct Source {
    /// From the root of the workspace.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Comments and the contents of strings and characters are blank.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: String, text: String) -> Source {
        let code = blanked(&text);
        Source { path, text, code }
    }

    /// Numbered lines of code.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Line of `fn`.
    pub(crate) at: usize,
    /// From `fn` to the closing brace.
    pub(crate) lines: usize,
}

/// All functions with a body.
pub(crate) fn functions(source: &Source) -> Vec<Function> {
    let code = &source.code;
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(offset) = code[from..].find("fn ") {
        let start = from + offset;
        from = start + 3;
        if code[..start].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(&code[from..]) {
            let at = code[..start].matches('\n').count() + 1;
            let lines = code[start..from + end].lines().count();
            found.push(Function { name, at, lines });
        }
    }
    found
}

/// Where the body's closing brace stands; `None` for a declaration without a body.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut others) = (0_i32, 0_i32);
    for (index, c) in code.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            ';' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && others == 0 {
                    return Some(index + 1);
                }
                if braces < 0 {
                    return None;
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether `word` stands in the line as a word of its own.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_open = word.ends_with(|c: char| !joins(c)) || !after.is_some_and(joins);
        !before.is_some_and(joins) && ends_open
    })
}

fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code: Vec<char> = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at, code.last().copied());
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code.into_iter().collect()
}

/// Where the comment, string or character that begins at `at` ends; `at` itself where none begins.
fn skipped(chars: &[char], at: usize, before: Option<char>) -> usize {
    let here = |index: usize| chars.get(index).copied().unwrap_or('\0');
    match (here(at), here(at + 1)) {
        ('/', '/') => (at..chars.len()).find(|index| here(*index) == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => quoted_end(chars, at + 1, '"'),
        ('r', '"' | '#') if !before.is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_') => {
            raw_end(chars, at).unwrap_or(at)
        }
        // A lifetime has no second quote after one character.
        ('\'', '\\') => quoted_end(chars, at + 1, '\''),
        ('\'', _) if here(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_i32;
    let mut index = at;
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                index += 1;
                continue;
            }
        }
        index += 2;
        if depth == 0 {
            break;
        }
    }
    index.min(chars.len())
}

fn quoted_end(chars: &[char], mut index: usize, quote: char) -> usize {
    while index < chars.len() && chars[index] != quote {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    (index + 1).min(chars.len())
}

fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |index: &usize| {
        chars[*index] == '"'
            && chars[index + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (open + 1..chars.len()).find(closes).map(|index| index + 1 + hashes)
}

#[test]
fn comments_and_strings_are_not_code() {
    let text = "fn a() { /* } /* unsafe */ */ let s = \"} unsafe \\\" {\"; let r = r#\"unsafe }\"#; }\n// unsafe\nlet c = '}'; let l: &'static str;";
    let source = Source::new("x.rs".into(), text.into());
    assert!(!source.code.contains("unsafe"), "{}", source.code);
    assert!(source.code.contains("&'static str"));
    assert_eq!(source.code.matches(['{', '}']).count(), 2, "{}", source.code);
}

#[test]
fn functions_are_measured_from_their_first_line_to_their_last() {
    let text =
        "trait T { fn no(&self) -> [u8; 2]; }\nfn one() {}\npub async fn three<F: Fn()>(\n    f: F) {\n}\n";
    let found: Vec<_> = functions(&Source::new("x.rs".into(), text.into()))
        .iter()
        .map(|function| (function.name.clone(), function.at, function.lines))
        .collect();
    assert_eq!(found, [("one".to_owned(), 2, 1), ("three".to_owned(), 3, 3)]);
}

#[test]
fn words_are_whole() {
    assert!(has_word("unsafe {", "unsafe") && !has_word("forbid(unsafe_code)", "unsafe"));
    assert!(has_word("use std::thread;", "std::thread") && !has_word("operand", "rand"));
}
