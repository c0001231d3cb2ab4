//! A page that needs nothing else: no script, no font, no picture from elsewhere, light and dark by the reader's wish.
//!
//! Whoever writes one gives title and parts; plots come from `chart`. Everything that a program or a person said goes
//! through `escape`.

const STYLE: &str = include_str!("page.css");

/// The whole document. `parts` is HTML; everything else is text.
pub(crate) fn document(title: &str, verdict: Option<(bool, &str)>, about: &[String], parts: &str) -> String {
    let verdict = verdict.map_or_else(String::new, |(is_good, words)| {
        let class = if is_good { "good" } else { "bad" };
        format!("<p class=\"verdict {class}\">{}</p>", escape(words))
    });
    let about: String = about.iter().map(|line| format!("<p class=\"small\">{}</p>", escape(line))).collect();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head><body>\
         <header><h1>{title}</h1>{verdict}{about}</header>{parts}</body></html>\n",
        title = escape(title),
    )
}

/// A part of the page: a heading, a word about it, and what belongs to it (HTML).
pub(crate) fn section(heading: &str, word: &str, content: &str) -> String {
    let word =
        if word.is_empty() { String::new() } else { format!("<p class=\"small\">{}</p>", escape(word)) };
    format!("<section><h2>{}</h2>{word}{content}</section>", escape(heading))
}

/// A table of texts; the first column is aligned left.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = String>, tag: &str| -> String {
        let cells: String = cells.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect();
        format!("<tr>{cells}</tr>")
    };
    let head = line(&mut heads.iter().map(|head| escape(head)), "th");
    let body: String = rows.iter().map(|row| line(&mut row.iter().map(|cell| escape(cell)), "td")).collect();
    format!("<div class=\"wide\"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>")
}

/// Remarks, one a line of text.
pub(crate) fn remarks(text: &str) -> String {
    let items: String = text.lines().map(|line| format!("<li>{}</li>", escape(line))).collect();
    if items.is_empty() { items } else { format!("<ul>{items}</ul>") }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_escapes_what_programs_said() {
        let parts = section("a <b>", "c & d", &table(&["one"], &[vec!["<script>".into()]]));
        let page = document("t", Some((true, "\"fine\"")), &["x < y".into()], &parts);
        for wanted in ["a &lt;b&gt;", "c &amp; d", "&lt;script&gt;", "&quot;fine&quot;", "x &lt; y"] {
            assert!(page.contains(wanted), "{wanted}");
        }
        for outside in ["http://", "https://", "src=", "@import", "url(", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
