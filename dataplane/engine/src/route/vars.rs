//! Whether a request fulfils an expression (`vars`).
//!
//! The expression is read and its patterns compiled in the contract, so that both planes refuse the same; here it is only looked at.
//! Evaluation stops at the first member that decides, and allocates nothing.

use std::net::IpAddr;

use ringway_snapshot::Variable;
use ringway_snapshot::expression::{Comparison, Expression, Literal, number_of};

use crate::content::{Content, Found, TEXT_BYTES_PER_STEP, Value};
use crate::facts::{self, Facts};

/// See the module.
pub fn holds(expression: &Expression, facts: &Facts<'_>) -> bool {
    match expression {
        Expression::All(members) => members.iter().all(|member| holds(member, facts)),
        Expression::Any(members) => members.iter().any(|member| holds(member, facts)),
        Expression::Not(member) => !holds(member, facts),
        Expression::Test(Variable::InBody(path), comparison) => match facts.content.look() {
            None => compares(None, comparison),
            Some(content) => content_compares(content, &content.find(path), comparison),
        },
        Expression::Test(variable, comparison) => {
            let value = facts.value(variable);
            compares(value.as_deref(), comparison)
        }
    }
}

/// `None` is nil.
fn compares(value: Option<&[u8]>, comparison: &Comparison) -> bool {
    let number = || number_of(value?);
    match comparison {
        Comparison::Equal(Literal::Missing) => value.is_none(),
        Comparison::Equal(Literal::Text(text)) => value == Some(text.as_bytes()),
        Comparison::Equal(Literal::Number(wanted)) => number() == Some(*wanted),
        // Of the variables but those of the content none is a list or a boolean.
        Comparison::Equal(Literal::Bool(_) | Literal::Other) | Comparison::Has(_) | Comparison::Never => {
            false
        }
        Comparison::Above(bound) => number().is_some_and(|number| number > *bound),
        Comparison::AtLeast(bound) => number().is_some_and(|number| number >= *bound),
        Comparison::Below(bound) => number().is_some_and(|number| number < *bound),
        Comparison::AtMost(bound) => number().is_some_and(|number| number <= *bound),
        Comparison::Occurs(pattern) => value.is_some_and(|value| pattern.occurs_in(value)),
        Comparison::OneOf(literals) => value.is_some_and(|value| {
            literals.iter().any(|one| matches!(one, Literal::Text(text) if text.as_bytes() == value))
        }),
        Comparison::Within(blocks) => {
            let address = value.and_then(|value| str::from_utf8(value).ok()?.parse::<IpAddr>().ok());
            address.is_some_and(|address| blocks.iter().any(|block| block.contains(address)))
        }
    }
}

/// The same of a value of the content, which has a type: a number equals a number in a list, and a text that spells one does not. A list equals nothing.
fn content_compares(content: &Content, found: &Found<'_>, comparison: &Comparison) -> bool {
    let value = match found {
        Found::Nothing | Found::One(Value::Null) => return compares(None, comparison),
        Found::List(list) => {
            return matches!(comparison, Comparison::Has(literal) if list.iter().any(|value| is(value, literal)));
        }
        Found::One(value) => *value,
    };
    match (comparison, value) {
        (Comparison::Has(literal), Value::List(list)) => {
            content.pays(list.len()) && list.iter().any(|value| is(value, literal))
        }
        (Comparison::OneOf(literals), value) => literals.iter().any(|literal| is(value, literal)),
        (Comparison::Equal(Literal::Number(_)), Value::Text(text)) => compares(Some(text), comparison),
        (Comparison::Equal(literal), value) => is(value, literal),
        (Comparison::Occurs(_), Value::Text(text)) => {
            content.pays(text.len() / TEXT_BYTES_PER_STEP) && compares(Some(text), comparison)
        }
        (
            Comparison::Above(_)
            | Comparison::AtLeast(_)
            | Comparison::Below(_)
            | Comparison::AtMost(_)
            | Comparison::Occurs(_),
            Value::Number(_),
        ) => compares(facts::one(&Found::One(value)).as_deref(), comparison),
        (_, Value::Text(text)) => compares(Some(text), comparison),
        _ => false,
    }
}

/// Whether both are the same, type and all.
fn is(value: &Value, literal: &Literal) -> bool {
    match (value, literal) {
        (Value::Bool(value), Literal::Bool(literal)) => value == literal,
        (Value::Number(value), Literal::Number(literal)) => value == literal,
        (Value::Text(value), Literal::Text(literal)) => **value == *literal.as_bytes(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::facts::Known;
    use crate::facts::tests::with_facts;

    fn check(rules: &Value, request: &str) -> bool {
        let expression = Expression::read(rules).unwrap();
        with_facts(request, |facts| holds(&expression, facts))
    }

    #[test]
    fn each_operator_compares_as_in_lua() {
        let request = "GET /a?n=10&t=abc&ip=10.1.2.3 HTTP/1.1\r\nHost: h\r\nUser-Agent: Android\r\n\r\n";
        for (test, want) in [
            (json!(["arg_t", "==", "abc"]), true),
            (json!(["arg_n", "==", 10]), true),
            (json!(["arg_n", "==", "10.0"]), false),
            (json!(["arg_n", "~=", 10]), false),
            (json!(["arg_t", "~=", 10]), true),
            (json!(["arg_none", "~=", "x"]), true),
            (json!(["arg_none", "==", null]), true),
            (json!(["arg_t", "==", null]), false),
            (json!(["arg_t", "==", true]), false),
            (json!(["arg_n", ">", 9]), true),
            (json!(["arg_n", ">", "9"]), true),
            (json!(["arg_n", "<", 10]), false),
            (json!(["arg_n", "<=", 10]), true),
            (json!(["arg_n", ">=", 10.5]), false),
            (json!(["arg_t", ">", 1]), false),
            (json!(["arg_t", "!", ">", 1]), true),
            (json!(["arg_none", "<", 1]), false),
            (json!(["http_user_agent", "~~", "android"]), false),
            (json!(["http_user_agent", "~*", "android"]), true),
            (json!(["http_none", "~~", ".*"]), false),
            (json!(["http_none", "!", "~~", ".*"]), true),
            (json!(["arg_t", "in", ["x", "abc"]]), true),
            (json!(["arg_n", "in", [10]]), false),
            (json!(["arg_t", "has", "abc"]), false),
            (json!(["arg_ip", "ipmatch", ["10.1.0.0/16"]]), true),
            (json!(["remote_addr", "ipmatch", ["10.0.0.1"]]), true),
            (json!(["arg_t", "ipmatch", ["10.0.0.1"]]), false),
        ] {
            assert_eq!(check(&json!([test]), request), want, "{test}");
        }
    }

    #[test]
    fn values_of_the_content_compare_by_their_type() {
        let body = br#"{"t": "abc", "n": 10, "s": "10", "b": true, "no": null, "list": ["x", 1, true], "ip": "10.1.2.3", "o": {"k": 1.5}}"#;
        let content = Content::read(b"application/json", body).unwrap();
        for (test, want) in [
            (json!(["post_arg.t", "==", "abc"]), true),
            (json!(["post_arg.n", "==", 10]), true),
            (json!(["post_arg.n", "==", "10"]), false),
            (json!(["post_arg.s", "==", 10]), true),
            (json!(["post_arg.s", "==", "10"]), true),
            (json!(["post_arg.b", "==", true]), true),
            (json!(["post_arg.b", "==", "true"]), false),
            (json!(["post_arg.b", "~=", false]), true),
            (json!(["post_arg.no", "==", null]), true),
            (json!(["post_arg.none", "==", null]), true),
            (json!(["post_arg.none", "~=", "x"]), true),
            (json!(["post_arg.t", "==", null]), false),
            (json!(["post_arg.list", "==", null]), false),
            (json!(["post_arg.list", "has", "x"]), true),
            (json!(["post_arg.list", "has", 1]), true),
            (json!(["post_arg.list", "has", "1"]), false),
            (json!(["post_arg.list[*]", "has", true]), true),
            (json!(["post_arg.list[0]", "has", "x"]), true),
            (json!(["post_arg.list[0]", "==", "x"]), false),
            (json!(["post_arg.list[0]", "~=", "x"]), true),
            (json!(["post_arg.list[9]", "==", null]), true),
            (json!(["post_arg.t", "has", "abc"]), false),
            (json!(["post_arg.t", "in", ["abc"]]), true),
            (json!(["post_arg.n", "in", [9, 10]]), true),
            (json!(["post_arg.s", "in", [10]]), false),
            (json!(["post_arg.n", ">", 9]), true),
            (json!(["post_arg.s", "<=", 9]), false),
            (json!(["post_arg.o.k", "<", 1.6]), true),
            (json!(["post_arg.o", "<", 2]), false),
            (json!(["post_arg.t", "~~", "^a"]), true),
            (json!(["post_arg.n", "~~", "^10$"]), true),
            (json!(["post_arg.list", "~~", "x"]), false),
            (json!(["post_arg.ip", "ipmatch", ["10.0.0.0/8"]]), true),
            (json!(["post_arg_t", "==", "abc"]), false),
        ] {
            let expression = Expression::read(&json!([test])).unwrap();
            let request = "POST / HTTP/1.1\r\nHost: h\r\n\r\n";
            let known =
                |known| with_facts(request, |facts| holds(&expression, &Facts { content: known, ..*facts }));
            assert_eq!(known(Known::Read(&content)), want, "{test}");
            let wanted = Cell::new(false);
            let (unread, none) = (known(Known::Unread(&wanted)), known(Known::Nothing));
            assert_eq!((unread, wanted.get()), (none, true), "{test}");
        }
    }

    /// lua-resty-expr's definition over a table of variables, in its own order of steps and without anything compiled.
    fn model(rules: &Value, lookup: &dyn Fn(&str) -> Option<String>) -> bool {
        let list = rules.as_array().unwrap();
        let Some(Value::String(first)) = list.first() else {
            return list.iter().all(|rule| model(rule, lookup));
        };
        let members = &list[1..];
        match first.to_uppercase().as_str() {
            "AND" => return members.iter().all(|rule| model(rule, lookup)),
            "!AND" => return !members.iter().all(|rule| model(rule, lookup)),
            "OR" => return members.iter().any(|rule| model(rule, lookup)),
            "!OR" => return !members.iter().any(|rule| model(rule, lookup)),
            _ => {}
        }
        let left = lookup(first);
        let (reverse, operator, right) =
            if list.len() == 4 { (true, &list[2], &list[3]) } else { (false, &list[1], &list[2]) };
        let as_number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let left_number = left.as_deref().and_then(as_number);
        let right_number = right.as_f64().or_else(|| right.as_str().and_then(as_number));
        let ordered = |order: fn(f64, f64) -> bool| match (left_number, right_number) {
            (Some(left), Some(right)) => order(left, right),
            _ => false,
        };
        let equal = match (right, &left) {
            (Value::Null, left) => left.is_none(),
            (Value::Number(number), _) => left_number == number.as_f64(),
            (Value::String(text), Some(left)) => text == left,
            _ => false,
        };
        let found = match operator.as_str().unwrap() {
            "==" => equal,
            "~=" => !equal,
            ">" => ordered(|a, b| a > b),
            ">=" => ordered(|a, b| a >= b),
            "<" => ordered(|a, b| a < b),
            "<=" => ordered(|a, b| a <= b),
            // The only patterns here are plain letters.
            "~~" => left.is_some_and(|left| left.contains(right.as_str().unwrap())),
            "~*" => {
                left.is_some_and(|left| left.to_lowercase().contains(&right.as_str().unwrap().to_lowercase()))
            }
            "in" => {
                right.as_array().unwrap().iter().any(|one| one.as_str() == left.as_deref() && left.is_some())
            }
            _ => unreachable!(),
        };
        found != reverse
    }

    fn test() -> impl Strategy<Value = Value> {
        let value = prop_oneof![
            Just(Value::Null),
            "[abAB1]{0,2}".prop_map(Value::from),
            (-2i64..12).prop_map(Value::from),
            Just(json!(1.5)),
            Just(json!("10")),
        ];
        let compare = (prop::sample::select(vec!["==", "~=", ">", ">=", "<", "<="]), value)
            .prop_map(|(operator, value)| (operator, value));
        let pattern = (prop::sample::select(vec!["~~", "~*"]), "[abAB]{1,2}")
            .prop_map(|(operator, text)| (operator, json!(text)));
        let list = prop::collection::vec("[ab1]{0,2}", 0..3).prop_map(|texts| ("in", json!(texts)));
        let name = prop::sample::select(vec!["arg_a", "arg_b", "http_x_c", "arg_none"]);
        (name, any::<bool>(), prop_oneof![3 => compare, 1 => pattern, 1 => list]).prop_map(
            |(name, not, (operator, value))| {
                if not { json!([name, "!", operator, value]) } else { json!([name, operator, value]) }
            },
        )
    }

    fn rules() -> impl Strategy<Value = Value> {
        let tree = test().prop_recursive(4, 24, 4, |inner| {
            let word = prop::sample::select(vec!["AND", "OR", "!AND", "!OR", "and", "!or"]);
            (word, prop::collection::vec(inner, 2..4)).prop_map(|(word, members)| {
                json!(std::iter::once(Value::from(word)).chain(members).collect::<Vec<_>>())
            })
        });
        prop::collection::vec(tree, 0..4).prop_map(|members| json!(members))
    }

    proptest! {
        #[test]
        fn it_decides_as_the_definition_does(
            rules in rules(),
            a in "[abAB1]{0,2}|10|-?[0-9]{1,2}|1\\.5",
            b in prop::option::of("[ab1]{0,2}|10"),
            c in prop::option::of("[abAB1]{1,2}|10"),
        ) {
            let query = format!("a={a}{}", b.as_ref().map(|b| format!("&b={b}")).unwrap_or_default());
            let field = c.as_ref().map(|c| format!("X-C: {c}\r\n")).unwrap_or_default();
            let request = format!("GET /?{query} HTTP/1.1\r\nHost: h\r\n{field}\r\n");
            let lookup = |name: &str| match name {
                "arg_a" => Some(a.clone()),
                "arg_b" => b.clone(),
                "http_x_c" => c.clone(),
                _ => None,
            };
            prop_assert_eq!(check(&rules, &request), model(&rules, &lookup), "{} {}", rules, request);
        }
    }
}
