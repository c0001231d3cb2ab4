//! What a list shows: `name`, `label`, `uri` and `filter` choose, `page` and `page_size` cut.

use serde_json::Value;

use super::answer::Answer;
use super::item::{Item, id_text};
use super::request::{Query, segments};
use super::shelf::Slice;

/// APISIX's bounds of `page_size`.
const PAGE_SIZE_MIN: u64 = 10;
const PAGE_SIZE_MAX: u64 = 500;

/// What a list's query asks for.
#[derive(Debug, Default)]
pub(super) struct Filter {
    name: Option<String>,
    label: Option<(String, Option<String>)>,
    uri: Option<String>,
    equal: Vec<(String, String)>,
    /// The page.
    pub(super) slice: Option<Slice>,
}

impl Filter {
    /// Reads the query.
    pub(super) fn parse(query: &Query) -> Result<Filter, Answer> {
        let label = query.get("label").map(|label| match label.split_once(':') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (label.to_owned(), None),
        });
        let mut equal = Vec::new();
        for pair in query.get("filter").unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let Some((field, value)) = pair.split_once('=') else {
                return Err(Answer::bad(format!(
                    "filter is field=value pairs, percent-encoded; found {pair:?}"
                )));
            };
            let value = segments(value)?.join("/");
            equal.push((field.to_owned(), value));
        }
        let slice = query.number("page")?.map(|page| {
            let take = query.number("page_size").ok().flatten().unwrap_or(PAGE_SIZE_MIN);
            let take = take.clamp(PAGE_SIZE_MIN, PAGE_SIZE_MAX);
            Slice { skip: page.saturating_sub(1).saturating_mul(take), take }
        });
        query.number("page_size")?;
        let text = |name: &str| query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Filter { name: text("name"), label, uri: text("uri"), equal, slice })
    }

    /// Whether all objects are wanted.
    pub(super) fn is_everything(&self) -> bool {
        self.name.is_none() && self.label.is_none() && self.uri.is_none() && self.equal.is_empty()
    }

    /// Whether an object is wanted.
    pub(super) fn fits(&self, item: &Item) -> bool {
        let text = |field: &str| item.spec.get(field).and_then(Value::as_str);
        let name = |wanted: &String| text("name").is_some_and(|name| name.contains(wanted.as_str()));
        let uri = |wanted: &String| {
            let many = item.spec.get("uris").and_then(Value::as_array).into_iter().flatten();
            text("uri")
                .into_iter()
                .chain(many.filter_map(Value::as_str))
                .any(|uri| uri.contains(wanted.as_str()))
        };
        let label = |(key, value): &(String, Option<String>)| {
            let own = item.spec.get("labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
            own.is_some_and(|own| value.as_ref().is_none_or(|value| own == value))
        };
        let equal = |(field, value): &(String, String)| {
            item.spec.get(field).and_then(id_text).is_some_and(|own| own == *value)
        };
        self.name.as_ref().is_none_or(name)
            && self.uri.as_ref().is_none_or(uri)
            && self.label.as_ref().is_none_or(label)
            && self.equal.iter().all(equal)
    }
}

#[cfg(test)]
mod tests {
    use ringway_snapshot::Kind;
    use serde_json::json;

    use super::*;

    fn fits(query: &str, spec: &Value) -> bool {
        let filter = Filter::parse(&Query::parse(&format!("/?{query}").parse().unwrap()).unwrap()).unwrap();
        filter.fits(&Item::of_file(Kind::Route, "1".into(), spec.as_object().unwrap().clone(), 1))
    }

    #[test]
    fn each_condition_must_hold() {
        let route = json!({"name": "shop cart", "uris": ["/cart", "/basket/*"], "labels": {"env": "dev"}, "service_id": 2});
        for (query, want) in [
            ("", true),
            ("name=cart", true),
            ("name=users", false),
            ("uri=basket", true),
            ("uri=/users", false),
            ("label=env", true),
            ("label=env:dev", true),
            ("label=env:prod", false),
            ("label=team", false),
            ("filter=service_id%3D2", true),
            ("filter=service_id%3D2%26upstream_id%3D3", false),
            ("name=cart&uri=cart&label=env:dev", true),
        ] {
            assert_eq!(fits(query, &route), want, "{query}");
        }
    }

    #[test]
    fn pages_are_counted_from_one_and_bounded() {
        let slice = |query: &str| {
            Filter::parse(&Query::parse(&format!("/?{query}").parse().unwrap()).unwrap()).unwrap().slice
        };
        assert_eq!(slice("page_size=20"), None);
        assert_eq!(slice("page=1&page_size=1"), Some(Slice { skip: 0, take: 10 }));
        assert_eq!(slice("page=3&page_size=20"), Some(Slice { skip: 40, take: 20 }));
        assert_eq!(slice("page=2&page_size=9999"), Some(Slice { skip: 500, take: 500 }));
    }
}
