//! nginx's configuration as words: directives with arguments, blocks in braces, comments, quotes.
//!
//! Reads what nginx reads, and judges nothing. Every directive keeps its line, so that a report can name it. Bounded in depth; a file that ends inside
//! of a quote or a block is refused with its line, never half read.

/// Blocks in blocks; nginx's own limit is far lower.
const DEPTH_MAX: usize = 64;

/// A directive, or a block with its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) line: usize,
    pub(super) block: Option<Vec<Directive>>,
}

/// Where and why it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) line: usize,
    pub(super) why: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, Unreadable> {
    let mut reader = Reader { rest: text, line: 1 };
    directives(&mut reader, 0)
}

/// Up to the end of the block, or of the text on the outermost level.
fn directives(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<Directive>, Unreadable> {
    let mut found = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut begun = reader.line;
    loop {
        let token = reader.token()?;
        let failed = |line, why| Err(Unreadable { line, why });
        match token {
            Some(Token::Word(word)) => {
                if words.is_empty() {
                    begun = reader.line;
                }
                words.push(word);
            }
            Some(end @ (Token::End | Token::Open)) => {
                let mut all = std::mem::take(&mut words).into_iter();
                let Some(name) = all.next() else {
                    return failed(reader.line, "a ';' or '{' without a directive");
                };
                let block = match end {
                    Token::Open if name.ends_with("_by_lua_block") => {
                        reader.skip_foreign_block()?;
                        Some(Vec::new())
                    }
                    Token::Open if depth >= DEPTH_MAX => return failed(begun, "blocks nest too deep"),
                    Token::Open => Some(directives(reader, depth + 1)?),
                    _ => None,
                };
                found.push(Directive { name, arguments: all.collect(), line: begun, block });
            }
            Some(Token::Close) if !words.is_empty() => {
                return failed(begun, "a directive without ';' at its end");
            }
            Some(Token::Close) if depth == 0 => return failed(reader.line, "a '}' without its '{'"),
            None if !words.is_empty() => return failed(begun, "a directive without ';' at its end"),
            None if depth > 0 => return failed(reader.line, "the end of the file inside of a block"),
            Some(Token::Close) | None => return Ok(found),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn token(&mut self) -> Result<Option<Token>, Unreadable> {
        loop {
            match self.peek() {
                None => return Ok(None),
                Some(c) if c.is_whitespace() => drop(self.next()),
                Some('#') => while self.peek().is_some_and(|c| c != '\n') && self.next().is_some() {},
                Some('{') => return Ok(self.next().map(|_| Token::Open)),
                Some('}') => return Ok(self.next().map(|_| Token::Close)),
                Some(';') => return Ok(self.next().map(|_| Token::End)),
                Some(quote @ ('"' | '\'')) => {
                    self.next();
                    return self.quoted(quote).map(|word| Some(Token::Word(word)));
                }
                Some(_) => return Ok(Some(Token::Word(self.word()))),
            }
        }
    }

    /// Up to white space, a ';' or a brace; `${name}` belongs to the word.
    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek() {
            if c == '{' && word.ends_with('$') {
                while let Some(c) = self.next() {
                    word.push(c);
                    if c == '}' {
                        break;
                    }
                }
                continue;
            }
            if c.is_whitespace() || matches!(c, ';' | '{' | '}') {
                break;
            }
            self.next();
            if c == '\\' {
                // Kept: what it means is the directive's own affair (a regular expression keeps it, a word does not).
                word.push(c);
                word.extend(self.next());
                continue;
            }
            word.push(c);
        }
        word
    }

    fn quoted(&mut self, quote: char) -> Result<String, Unreadable> {
        let begun = self.line;
        let mut word = String::new();
        while let Some(c) = self.next() {
            match c {
                c if c == quote => return Ok(word),
                '\\' => match self.next() {
                    Some(c) if c == quote || c == '\\' => word.push(c),
                    Some(c) => word.extend(['\\', c]),
                    None => break,
                },
                c => word.push(c),
            }
        }
        Err(Unreadable { line: begun, why: "a quote without its end" })
    }

    /// Another language's text: only its braces count.
    fn skip_foreign_block(&mut self) -> Result<(), Unreadable> {
        let begun = self.line;
        let mut depth = 1;
        while let Some(c) = self.next() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(Unreadable { line: begun, why: "a block without its end" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let word = |directive: Directive| {
            std::iter::once(directive.name).chain(directive.arguments).collect::<Vec<_>>()
        };
        parse(text).unwrap().into_iter().map(word).collect()
    }

    #[test]
    fn words_quotes_comments_and_blocks() {
        assert_eq!(words("a 'b c' \"d\\\"e\" f#g; # h;\ni;"), [vec!["a", "b c", "d\"e", "f#g"], vec!["i"]]);
        assert_eq!(words("proxy_pass http://${up}/x;"), [["proxy_pass", "http://${up}/x"]]);
        assert_eq!(words(r"location ~ \.php$ { }"), [["location", "~", r"\.php$"]]);
        let parsed = parse("http {\n  server {\n    listen 80;\n  }\n}\n").unwrap();
        let server = &parsed[0].block.as_ref().unwrap()[0];
        assert_eq!((server.line, server.block.as_ref().unwrap()[0].line), (2, 3));
        let lua = parse("content_by_lua_block { if x then y = {1; 2} end }\nroot /;").unwrap();
        assert_eq!((lua.len(), lua[1].name.as_str()), (2, "root"));
    }

    #[test]
    fn what_is_cut_is_refused_with_its_line() {
        for (text, line) in [("a\nb", 1), ("a {\n", 2), ("\n'b", 2), ("}", 1), (";", 1), ("a { b }", 1)] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text:?}");
        }
        assert!(parse(&"a{".repeat(100)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in r#"[ \n{};#'"\\$a-c]{0,60}"#) {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read_again(tree in tree()) {
            let text: String = tree.iter().map(write).collect();
            let read: String = parse(&text).unwrap().iter().map(write).collect();
            prop_assert_eq!(read, text);
        }
    }

    fn tree() -> impl Strategy<Value = Vec<Directive>> {
        let leaf = ("[a-z_]{1,9}", proptest::collection::vec("[a-z0-9 ;{}#\"'\\\\$/.]{0,8}", 0..4))
            .prop_map(|(name, arguments)| Directive { name, arguments, line: 0, block: None });
        let any = leaf.prop_recursive(4, 24, 4, |inner| {
            ("[a-z_]{1,9}", proptest::collection::vec(inner, 0..4)).prop_map(|(name, block)| Directive {
                name,
                arguments: Vec::new(),
                line: 0,
                block: Some(block),
            })
        });
        proptest::collection::vec(any, 0..5)
    }

    fn write(directive: &Directive) -> String {
        let quoted = |word: &String| format!(" '{}'", word.replace('\\', "\\\\").replace('\'', "\\'"));
        let arguments: String = directive.arguments.iter().map(quoted).collect();
        let end = match &directive.block {
            None => ";\n".to_owned(),
            Some(block) => format!(" {{\n{}}}\n", block.iter().map(write).collect::<String>()),
        };
        format!("{}{arguments}{end}", directive.name)
    }
}
