//! The report as one page: table, and for each scenario its plots. Nothing is loaded from anywhere else.

use super::plot;
use super::report::{HEADS, Judged, Report, Row, Series, figures};

const STYLE: &str = include_str!("page.css");
/// What the heads of the table mean, in their order.
const HEAD_HELP: [&str; HEADS.len()] = [
    "what was done to the gateway",
    "sent by open-loop clients, coordinated omission free, and by the probe",
    "not answered well although a healthy backend could have answered and a living gateway took it",
    "connections that failed while a scenario had killed the only data plane",
    "the longest time without a good answer",
    "of good answers, from the time a request was due; slow ones on purpose left out",
    "from the fault until the broken node got no more requests",
    "from the end of the fault until the node got requests again",
    "transactions that PostgreSQL acknowledged",
    "from COMMIT to the last core: median / maximum, before the fault",
    "the same of changes that were committed during the fault",
    "the same of changes that were committed after the end of the fault",
    "from the end of the fault until everything committed before was on every core",
    "changes that PostgreSQL has and a core does not serve in the end, or the other way round",
    "a core's version fell, an answer was older than acknowledged, or a transaction was seen in part",
    "ok, FAILED, or skipped with its reason below",
];

pub(crate) fn render(report: &Report) -> String {
    let [requests, failed, excused, done, skipped] = report.totals();
    let verdict = if report.is_good() { "good" } else { "bad" };
    let words = if report.is_good() { "Nothing failed that should not" } else { "Something failed" };
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Ringway: faults under load</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head><body>\
         <header><h1>Ringway: faults under load</h1><p class=\"verdict {verdict}\">{words}</p>\
         <p>{done} faults injected into real executables and a real PostgreSQL under open-loop load, {skipped} skipped. \
         <b>{requests}</b> requests, <b>{failed}</b> failed, <b>{excused}</b> excused.</p><p class=\"small\">{}</p></header>",
        escape(&report.machine),
    );
    page.push_str(&table(report));
    page.push_str(&legend());
    for (index, row) in report.rows.iter().enumerate() {
        page.push_str(&section(index, row));
    }
    page.push_str("</body></html>\n");
    page
}

fn table(report: &Report) -> String {
    let heads: String = HEADS
        .iter()
        .zip(HEAD_HELP)
        .map(|(head, help)| format!("<th title=\"{}\">{head}</th>", escape(help)))
        .collect();
    let mut text = format!("<div class=\"wide\"><table><thead><tr>{heads}</tr></thead><tbody>");
    for (index, row) in report.rows.iter().enumerate() {
        text.push_str(&format!(
            "<tr><td><a href=\"#s{index}\" title=\"{}\">{}</a></td>",
            escape(row.scenario.title),
            row.scenario.name
        ));
        match &row.outcome {
            Judged::Done(done) => {
                for (cell, head) in figures(&done.0).iter().zip(HEADS.iter().skip(1)) {
                    let is_bad = matches!(*head, "failed" | "lost" | "back") && cell != "0";
                    let class = if is_bad { " class=\"bad\"" } else { "" };
                    text.push_str(&format!("<td{class}>{cell}</td>"));
                }
            }
            Judged::Skipped(reason) | Judged::Broken(reason) => {
                let short: String = reason.lines().next().unwrap_or_default().chars().take(90).collect();
                text.push_str(&format!(
                    "<td class=\"reason\" colspan=\"{}\">{}</td>",
                    HEADS.len() - 2,
                    escape(&short)
                ));
            }
        }
        let result = row.result();
        text.push_str(&format!("<td class=\"result {}\">{result}</td></tr>", result.to_lowercase()));
    }
    text + "</tbody></table></div>"
}

fn legend() -> String {
    let help: String = HEADS
        .iter()
        .zip(HEAD_HELP)
        .skip(1)
        .map(|(head, help)| format!("<dt>{head}</dt><dd>{}</dd>", escape(help)))
        .collect();
    format!("<details><summary>What the columns mean</summary><dl>{help}</dl></details>")
}

fn section(index: usize, row: &Row) -> String {
    let result = row.result();
    let mut text = format!(
        "<section id=\"s{index}\"><h2>{} <span class=\"result {}\">{result}</span></h2>\
         <p class=\"name\">{} · {:.0} s</p><p>{}</p>",
        escape(&capital(row.scenario.title)),
        result.to_lowercase(),
        row.scenario.name,
        row.took.as_secs_f64(),
        escape(row.scenario.about)
    );
    let remarks: String = row.remarks().iter().map(|remark| format!("<li>{}</li>", escape(remark))).collect();
    if !remarks.is_empty() {
        text.push_str(&format!("<ul>{remarks}</ul>"));
    }
    if let Judged::Done(done) = &row.outcome {
        text.push_str(&plots(&done.1));
    }
    text + "</section>"
}

fn plots(series: &Series) -> String {
    let marks: String = series
        .marks
        .iter()
        .map(|(at, is_fault, text)| {
            let class = if *is_fault { "begin" } else { "end" };
            format!("<span class=\"{class}\">{at:.1} s {}</span>", escape(text))
        })
        .collect();
    let cores: String = (0..series.cores.len())
        .map(|core| format!("<span class=\"key core{}\">core {core}</span>", core % 4))
        .collect();
    format!(
        "<p class=\"marks\">{marks}</p>\
         <figure>{}<figcaption>Requests that were answered well, by the time they were due</figcaption></figure>\
         <figure>{}</figure>\
         <figure>{}<figcaption>Versions: <span class=\"key committed\">committed in PostgreSQL</span> {cores}\
         </figcaption></figure>",
        plot::requests(series),
        plot::failures(series),
        plot::versions(series)
    )
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::fault::judge::Verdict;
    use crate::fault::scenarios;

    #[test]
    fn a_page_needs_nothing_else_and_escapes_what_programs_said() {
        let verdict = Verdict { problems: vec!["<script>".into()], ..Verdict::default() };
        let row = Row::judged(&scenarios::ALL[0], verdict, Series::default());
        let report = Report { rows: vec![row], machine: "a & b".into(), executables: PathBuf::new() };
        let page = render(&report);
        assert!(page.contains("a &amp; b") && page.contains("&lt;script&gt;") && !page.contains("<script"));
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
