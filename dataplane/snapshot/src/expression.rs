//! Conditions on variables: lua-resty-expr's form, as APISIX has it in `vars` and in plugins.
//!
//! `[["arg_name", "==", "json"], ["arg_age", "!", ">", 18]]`, or `["OR", [...], [...]]` with `AND`, `OR`, `!AND` and `!OR` at any
//! depth. Read once, with patterns and blocks compiled; the engine evaluates it. Comparison is lua-resty-expr's:
//! a missing variable is nil, equal only to null; against a number a text counts as the number it spells, and
//! elsewhere a text and a number are never equal.

use serde_json::Value;

use crate::cidr::Cidr;
use crate::limits::{EXPRESSION_BLOCKS_MAX, EXPRESSION_TESTS_MAX};
use crate::pattern::Pattern;
use crate::variable::Variable;

/// Where below the expression something is wrong, and what.
pub type Wrong = (String, String);

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// Every one of them; of none it is true.
    All(Box<[Expression]>),
    /// At least one of them.
    Any(Box<[Expression]>),
    /// Not that.
    Not(Box<Expression>),
    /// One variable, compared.
    Test(Variable, Comparison),
}

/// What a variable's value is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// `==`.
    Equal(Literal),
    /// `>`.
    Above(f64),
    /// `>=`.
    AtLeast(f64),
    /// `<`.
    Below(f64),
    /// `<=`.
    AtMost(f64),
    /// `~~` and `~*`.
    Occurs(Pattern),
    /// `in`: one of these.
    OneOf(Box<[Literal]>),
    /// `has`: a list with this in it.
    Has(Literal),
    /// `ipmatch`.
    Within(Box<[Cidr]>),
    /// What can never hold: `>` with what is no number.
    Never,
}

/// A constant of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// null: the request lacks it.
    Missing,
    /// Text.
    Text(Box<str>),
    /// A number.
    Number(f64),
    /// A boolean.
    Bool(bool),
    /// What no variable equals: a list, an object.
    Other,
}

impl Expression {
    /// Reads `vars`.
    pub fn read(rules: &Value) -> Result<Expression, Wrong> {
        let mut tests_left = EXPRESSION_TESTS_MAX;
        Expression::read_within(rules, &mut tests_left)
    }

    /// Reads one of several that may have so many conditions together, and takes its own off.
    pub fn read_within(rules: &Value, tests_left: &mut usize) -> Result<Expression, Wrong> {
        let Value::Array(list) = rules else { return Err(at("", "must be a list of conditions")) };
        match list.first() {
            None => return Ok(Expression::All(Box::default())),
            Some(Value::String(word)) if logic(word).is_none() => {
                return Err(at("", "rule should be wrapped inside brackets"));
            }
            _ => {}
        }
        nested(list, tests_left)
    }
}

impl Expression {
    /// Whether any variable in it is so.
    pub fn names(&self, is_so: &dyn Fn(&Variable) -> bool) -> bool {
        match self {
            Expression::All(members) | Expression::Any(members) => members.iter().any(|one| one.names(is_so)),
            Expression::Not(member) => member.names(is_so),
            Expression::Test(variable, _) => is_so(variable),
        }
    }
}

/// How a list's members are joined.
#[derive(Clone, Copy)]
struct Logic {
    any: bool,
    negated: bool,
}

fn logic(word: &str) -> Option<Logic> {
    let (negated, word) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
    match word {
        _ if word.eq_ignore_ascii_case("and") => Some(Logic { any: false, negated }),
        _ if word.eq_ignore_ascii_case("or") => Some(Logic { any: true, negated }),
        _ => None,
    }
}

/// A list that is one condition or joins several. Depth is bounded where JSON is read (`JSON_DEPTH_MAX`).
fn nested(list: &[Value], tests_left: &mut usize) -> Result<Expression, Wrong> {
    let (how, first) = match list.first() {
        None => return Err(at("", "rule too short")),
        Some(Value::Array(_)) => (Logic { any: false, negated: false }, 0),
        Some(Value::String(word)) => match logic(word) {
            Some(_) if list.len() <= 2 => return Err(at("", "rule too short")),
            Some(how) => (how, 1),
            None => return test(list, tests_left),
        },
        Some(_) => return Err(at("/0", "must be a variable's name, a logical operator or a list")),
    };
    let mut members = Vec::with_capacity(list.len());
    for (index, member) in list.iter().enumerate().skip(first) {
        let read = match member {
            Value::Array(list) => nested(list, tests_left),
            _ => Err(at("", "must be a list: a condition, or conditions")),
        };
        members.push(read.map_err(|(place, reason)| (format!("/{index}{place}"), reason))?);
    }
    let members = members.into_boxed_slice();
    let joined = if how.any { Expression::Any(members) } else { Expression::All(members) };
    Ok(if how.negated { Expression::Not(Box::new(joined)) } else { joined })
}

/// `[variable, operator, value]`, with `"!"` before the operator, or `[variable, value]`.
fn test(list: &[Value], tests_left: &mut usize) -> Result<Expression, Wrong> {
    *tests_left = tests_left.checked_sub(1).ok_or_else(|| at("", "there are too many conditions"))?;
    let (name, negated, operator, place) = match list {
        [name, Value::String(not), operator, _] if not == "!" => (name, true, Some(operator), 3),
        [_, _, _, _] => return Err(at("/1", "bad 'not' expression: [variable, \"!\", operator, value]")),
        [name, operator, _] => (name, false, Some(operator), 2),
        // An older form that means equality.
        [name, _] => (name, false, None, 1),
        _ => return Err(at("", "invalid expression: [variable, operator, value]")),
    };
    let name = name.as_str().unwrap_or_default();
    let variable = Variable::read(name).map_err(|reason| at("/0", &reason))?;
    let value = list.get(place).unwrap_or(&Value::Null);
    let (comparison, differs) = match operator {
        None if value.is_null() => return Err(at("", "invalid expression")),
        None => (Comparison::Equal(literal(value)), false),
        Some(Value::String(operator)) => {
            let told = |(below, reason): Wrong| (format!("/{place}{below}"), reason);
            let known = comparison(operator, value).map_err(told)?;
            known.ok_or_else(|| at(&format!("/{}", place - 1), &format!("invalid operator '{operator}'")))?
        }
        Some(_) => return Err(at(&format!("/{}", place - 1), "an operator is a string")),
    };
    let test = Expression::Test(variable, comparison);
    Ok(if negated == differs { test } else { Expression::Not(Box::new(test)) })
}

/// What an operator means, and whether it is the opposite that is meant; `None`: there is none of that name.
fn comparison(operator: &str, value: &Value) -> Result<Option<(Comparison, bool)>, Wrong> {
    let plain = |comparison| Ok(Some((comparison, false)));
    let ordered = |make: fn(f64) -> Comparison| plain(number(value).map_or(Comparison::Never, make));
    match operator.to_ascii_lowercase().as_str() {
        "==" => plain(Comparison::Equal(literal(value))),
        "~=" => Ok(Some((Comparison::Equal(literal(value)), true))),
        ">" => ordered(Comparison::Above),
        ">=" => ordered(Comparison::AtLeast),
        "<" => ordered(Comparison::Below),
        "<=" => ordered(Comparison::AtMost),
        "~~" => plain(Comparison::Occurs(pattern(value, false)?)),
        "~*" => plain(Comparison::Occurs(pattern(value, true)?)),
        "in" => plain(one_of(value)),
        "has" => plain(Comparison::Has(literal(value))),
        "ipmatch" => plain(Comparison::Within(blocks(value)?)),
        _ => Ok(None),
    }
}

fn literal(value: &Value) -> Literal {
    match value {
        Value::Null => Literal::Missing,
        Value::String(text) => Literal::Text(text.as_str().into()),
        Value::Number(number) => number.as_f64().map_or(Literal::Other, Literal::Number),
        Value::Bool(value) => Literal::Bool(*value),
        Value::Array(_) | Value::Object(_) => Literal::Other,
    }
}

/// As Lua's `tonumber` has it.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => number_of(text.as_bytes()),
        _ => None,
    }
}

/// The number that a text spells: decimal with fraction and exponent, or hexadecimal, with white space around it.
pub fn number_of(text: &[u8]) -> Option<f64> {
    let text = str::from_utf8(text).ok()?.trim_ascii();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        // 13 digits are exact in a double; longer ones are no number here.
        let is_hex = (1..=13).contains(&hex.len()) && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let magnitude = u64::from_str_radix(hex, 16).ok().filter(|_| is_hex)? as f64;
        return Some(if negative { -magnitude } else { magnitude });
    }
    // Rust's words for what is no decimal number ("inf", "nan") are none here.
    let is_decimal =
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|_| is_decimal)
}

fn pattern(value: &Value, ignores_case: bool) -> Result<Pattern, Wrong> {
    let text = value.as_str().ok_or_else(|| at("", "must be a regular expression"))?;
    Pattern::new(text, ignores_case).map_err(|reason| at("", &reason))
}

fn one_of(value: &Value) -> Comparison {
    Comparison::OneOf(value.as_array().into_iter().flatten().map(literal).collect())
}

fn blocks(value: &Value) -> Result<Box<[Cidr]>, Wrong> {
    let wrong = |place: String| (place, "must be an IP address or a block such as 10.0.0.0/8".to_owned());
    match value {
        Value::Array(list) if list.len() > EXPRESSION_BLOCKS_MAX => {
            Err(at("", &format!("has more than {EXPRESSION_BLOCKS_MAX} blocks")))
        }
        Value::Array(list) => {
            let block = |(index, value): (usize, &Value)| {
                value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(format!("/{index}")))
            };
            list.iter().enumerate().map(block).collect()
        }
        Value::String(text) => text.parse().map(|block| Box::from([block])).map_err(|_| wrong(String::new())),
        _ => Err(wrong(String::new())),
    }
}

fn at(place: &str, reason: &str) -> Wrong {
    (place.to_owned(), reason.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operator_is_read() {
        for operator in ["==", "~=", ">", ">=", "<", "<=", "~~", "~*", "has"] {
            assert!(Expression::read(&json!([["arg_a", operator, "1"]])).is_ok(), "{operator}");
            assert!(Expression::read(&json!([["arg_a", "!", operator, "1"]])).is_ok(), "{operator}");
        }
        for operator in ["in", "IN", "In"] {
            let read = Expression::read(&json!([["arg_a", operator, ["1", 2]]])).unwrap();
            let test = Expression::Test(
                Variable::Argument("a".into()),
                Comparison::OneOf([Literal::Text("1".into()), Literal::Number(2.0)].into()),
            );
            assert_eq!(read, Expression::All([test].into()));
        }
        assert!(Expression::read(&json!([["remote_addr", "ipmatch", ["10.0.0.0/8", "::1"]]])).is_ok());
        assert_eq!(
            Expression::read(&json!([["http_user_agent", "ios"]])),
            Expression::read(&json!([["http_user_agent", "==", "ios"]]))
        );
        assert_eq!(Expression::read(&json!([])), Ok(Expression::All(Box::default())));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (rules, place, word) in [
            (json!(["http_a", "~*", "x"]), "", "wrapped inside brackets"),
            (json!({"a": 1}), "", "list"),
            (json!([["arg_a", "===", "x"]]), "/0/1", "invalid operator '==='"),
            (json!([["arg_a", "?", "==", "x"]]), "/0/1", "bad 'not'"),
            (json!([["arg_a"]]), "/0", "invalid expression"),
            (json!([[]]), "/0", "too short"),
            (json!(["OR", ["arg_a", "==", "x"]]), "", "too short"),
            (
                json!([
                    "AND",
                    ["arg_a", "==", "x"],
                    ["!OR", ["arg_a", "==", "1"], ["graphql_name", "==", "x"]]
                ]),
                "/2/2/0",
                "GraphQL",
            ),
            (json!([["arg_a", "~~", "(?<=a)b"]]), "/0/2", "look-behind"),
            (json!([["arg_a", "!", "~~", "a("]]), "/0/3", "unclosed"),
            (json!([["remote_addr", "ipmatch", ["10.0.0.0/8", "x"]]]), "/0/2/1", "block"),
            (json!([["nope", "==", "x"]]), "/0/0", "not a variable"),
            (json!([[1, "==", "x"]]), "/0/0", "name"),
            (json!([["arg_a", "==", "x"], 7]), "/1", "list"),
        ] {
            let (at, reason) = Expression::read(&rules).unwrap_err();
            assert_eq!(at, place, "{rules}: {reason}");
            assert!(reason.contains(word), "{rules}: {reason}");
        }
        let many: Vec<Value> = (0..=EXPRESSION_TESTS_MAX).map(|_| json!(["arg_a", "==", "x"])).collect();
        assert!(Expression::read(&json!(many)).is_err());
    }

    #[test]
    fn numbers_are_lua_s() {
        for (text, number) in [
            ("1", 1.0),
            (" 1.5 ", 1.5),
            ("-2e1", -20.0),
            (".5", 0.5),
            ("0x10", 16.0),
            ("-0XfF", -255.0),
            ("+3", 3.0),
        ] {
            assert_eq!(number_of(text.as_bytes()), Some(number), "{text}");
        }
        for text in ["", "a", "1a", "inf", "nan", "0x", "0xg", "1 2", "0x12345678901234"] {
            assert_eq!(number_of(text.as_bytes()), None, "{text}");
        }
    }
}
