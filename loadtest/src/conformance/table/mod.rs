//! All rows, by category. A row cites its rule; families of rows are generated where one rule has many shapes.

mod chunked;
mod connection;
mod content_length;
mod expect;
mod fields;
mod hop_by_hop;
mod host;
mod interim;
mod limits;
mod methods;
mod pipelining;
mod request_line;
mod response_framing;
mod responses;
mod smuggling;
mod target;
mod transfer_encoding;
mod truncation;
mod upgrade;

use super::case::{Case, Table};

/// Adds the rows of a category.
type Filler = fn(&mut Table);

/// Every row.
pub(crate) fn all() -> Vec<Case> {
    let fillers: [(&'static str, Filler); 19] = [
        ("request_line", request_line::fill),
        ("methods", methods::fill),
        ("target", target::fill),
        ("host", host::fill),
        ("fields", fields::fill),
        ("content_length", content_length::fill),
        ("transfer_encoding", transfer_encoding::fill),
        ("chunked", chunked::fill),
        ("smuggling", smuggling::fill),
        ("hop_by_hop", hop_by_hop::fill),
        ("expect", expect::fill),
        ("connection", connection::fill),
        ("pipelining", pipelining::fill),
        ("upgrade", upgrade::fill),
        ("responses", responses::fill),
        ("response_framing", response_framing::fill),
        ("truncation", truncation::fill),
        ("interim", interim::fill),
        ("limits", limits::fill),
    ];
    fillers
        .into_iter()
        .flat_map(|(category, fill)| {
            let mut table = Table::new(category);
            fill(&mut table);
            table.cases
        })
        .collect()
}

/// A byte as a name of a row.
fn named(byte: u8) -> String {
    match byte {
        b'\t' => "HTAB".to_owned(),
        b'\n' => "LF".to_owned(),
        b'\r' => "CR".to_owned(),
        b' ' => "SP".to_owned(),
        0x21..=0x7e => format!("'{}'", char::from(byte)),
        _ => format!("0x{byte:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_row_has_a_source_and_an_outcome() {
        let mut names = std::collections::HashSet::new();
        for case in all() {
            assert!(
                names.insert((case.category, case.name.clone())),
                "{}/{} twice",
                case.category,
                case.name
            );
            assert!(!case.source.is_empty() && !case.outcomes.is_empty(), "{}/{}", case.category, case.name);
        }
        assert!(names.len() > 400, "{}", names.len());
    }
}
