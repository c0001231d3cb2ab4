//! Text with variables in it: `/v2$uri`, `${http_host}:8080`, as plugins have it.
//!
//! A variable that the request lacks is nothing. `\$` is a dollar sign. A name that is no variable is refused, where APISIX writes
//! nothing in its place.

use crate::limits::TEMPLATE_VARIABLES_MAX;
use crate::variable::Variable;

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Template(Box<[Piece]>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// As it is written.
    Text(Box<str>),
    /// What the request has for it.
    Variable(Variable),
    /// `$1`: what a group of the plugin's pattern took.
    Group(usize),
}

impl Template {
    /// Reads a text. Numbers stand for groups only where `groups` is set.
    pub fn read(text: &str, groups: bool) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut variables = 0;
        let mut rest = text;
        while let Some(at) = rest.find(['$', '\\']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("\\$") {
                plain.push('$');
                rest = after;
                continue;
            }
            let named = from.strip_prefix('$').and_then(name);
            let Some((name, behind)) = named else {
                let (sign, after) = from.split_at(1);
                plain.push_str(sign);
                rest = after;
                continue;
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            variables += 1;
            if variables > TEMPLATE_VARIABLES_MAX {
                return Err(format!("has more than {TEMPLATE_VARIABLES_MAX} variables"));
            }
            pieces.push(match name.parse() {
                Ok(group) if groups => Piece::Group(group),
                _ => Piece::Variable(Variable::read(name)?),
            });
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Template(pieces.into()))
    }

    /// Its parts in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }
}

/// The name behind a dollar sign, and what follows it.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, behind) = match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len())),
    };
    (!name.is_empty()).then_some((name, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_among_text() {
        let template = Template::read("/a$uri-${arg_b}x\\$y$", false).unwrap();
        let text = |text: &str| Piece::Text(text.into());
        let want = [
            text("/a"),
            Piece::Variable(Variable::Uri),
            text("-"),
            Piece::Variable(Variable::Argument("b".into())),
            text("x$y$"),
        ];
        assert_eq!(template.pieces(), want);
        assert_eq!(Template::read("${1}x", true).unwrap().pieces(), [Piece::Group(1), text("x")]);
        assert!(Template::read("$nope", false).is_err());
        assert!(Template::read(&"$uri".repeat(TEMPLATE_VARIABLES_MAX), false).is_ok());
        assert!(Template::read(&"$uri".repeat(TEMPLATE_VARIABLES_MAX + 1), false).is_err());
    }
}
