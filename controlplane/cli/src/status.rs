//! `ringway status`: both planes side by side, and whether they agree.
//!
//! It asks the control plane's status socket and the data plane's admin socket, and judges: 0 when every core runs the control
//! plane's version and nothing is refused, 1 when something is not as it should be, 2 when neither plane
//! answers. It changes nothing. A field that a plane does not tell is shown as "-", never guessed.

use serde_json::{Value, json};

use crate::socket::{self, Sockets};
use crate::terminal::{plain, say};

/// What to show and how.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// All nodes of the database instead of this one (exit code 0: all serve the last revision, 1: not, 2: unknown)
    #[arg(long)]
    fleet: bool,
}

/// Prints the status and gives the exit code.
pub(crate) fn run(args: &StatusArgs) -> u8 {
    if args.fleet {
        return crate::fleet::run(&args.sockets, args.json);
    }
    let report = Report::gather(&args.sockets);
    if args.json {
        say(&report.json().to_string());
    } else {
        report.lines().iter().for_each(|line| say(line));
    }
    report.verdict().exit_code()
}

/// The judgement over both planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    InStep,
    Degraded,
    Down,
}

impl Verdict {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Verdict::InStep => 0,
            Verdict::Degraded => 1,
            Verdict::Down => 2,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Verdict::InStep => "in step",
            Verdict::Degraded => "degraded",
            Verdict::Down => "down",
        }
    }
}

/// What both planes told; `Err` is why one did not.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) control: Result<Value, String>,
    pub(crate) info: Result<Value, String>,
    pub(crate) snapshot: Value,
    pub(crate) cores: Value,
}

impl Report {
    fn gather(sockets: &Sockets) -> Report {
        let control = socket::document(&sockets.control())
            .map_err(|error| error.to_string())
            .and_then(|text| parsed("control plane", &text));
        let admin = sockets.admin();
        let ask = |line: &str| {
            socket::command(&admin, line)
                .map_err(|error| error.to_string())
                .and_then(|text| parsed("data plane", &text))
        };
        let info = ask("show info json");
        let (snapshot, cores) = if info.is_ok() {
            (ask("show snapshot json").unwrap_or(Value::Null), ask("show cores json").unwrap_or(Value::Null))
        } else {
            (Value::Null, Value::Null)
        };
        Report { control, info, snapshot, cores }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (&self.control, &self.info) {
            (Err(_), Err(_)) => Verdict::Down,
            _ if self.problems().is_empty() => Verdict::InStep,
            _ => Verdict::Degraded,
        }
    }

    /// Everything that is not as it should be, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match &self.control {
            Err(reason) => problems.push(reason.clone()),
            Ok(control) => control_problems(control, &mut problems),
        }
        match &self.info {
            Err(reason) => problems.push(reason.clone()),
            Ok(info) => self.dataplane_problems(info, &mut problems),
        }
        problems
    }

    fn dataplane_problems(&self, info: &Value, problems: &mut Vec<String>) {
        if info["draining"] == true {
            problems.push("the data plane is draining".to_owned());
        }
        if info["version"].is_null() {
            problems.push("the data plane has no configuration yet".to_owned());
        }
        // Where the control plane refused it, or heard of the refusal, it has told more about it already.
        let told = self
            .control
            .as_ref()
            .is_ok_and(|control| !control["refused"].is_null() || !control["dataplane"]["refused"].is_null());
        if let (Some(refusal), false) = (info["last_refusal"].as_object(), told) {
            let text = refusal.get("text").and_then(Value::as_str).unwrap_or("no reason given");
            let by = refusal.get("by").and_then(Value::as_str).unwrap_or("data plane");
            let version = refusal.get("version").map(shown).unwrap_or_default();
            problems.push(format!("the {} refused version {version}: {}", plain(by), plain(text)));
        }
        if let Some(error) = info["disk_error"].as_str() {
            problems.push(format!("the data plane cannot keep its snapshot: {}", plain(error)));
        }
        for core in self.cores.as_array().into_iter().flatten().filter(|core| core["dead"] == true) {
            problems.push(format!("core {} is dead; restart the data plane", core["core"]));
        }
        let Ok(control) = &self.control else { return };
        let wanted = version(&control["version"]);
        for core in self.cores.as_array().into_iter().flatten() {
            let runs = version(&core["version"]);
            if runs != wanted {
                problems.push(format!(
                    "core {} runs {}, the control plane has {}",
                    core["core"],
                    runs.as_deref().unwrap_or("nothing"),
                    wanted.as_deref().unwrap_or("nothing"),
                ));
            }
        }
        if !self.cores.is_array() {
            problems.push("the data plane does not tell its cores' versions".to_owned());
        }
    }

    fn json(&self) -> Value {
        let plane = |told: &Result<Value, String>| told.as_ref().ok().cloned().unwrap_or(Value::Null);
        json!({
            "verdict": self.verdict().text(),
            "problems": self.problems(),
            "control_plane": plane(&self.control),
            "data_plane": match &self.info {
                Ok(info) => json!({"info": info, "snapshot": self.snapshot, "cores": self.cores}),
                Err(_) => Value::Null,
            },
        })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("ringway: {}", self.verdict().text())];
        if let Ok(control) = &self.control {
            control_lines(control, &mut lines);
        }
        if let Ok(info) = &self.info {
            self.dataplane_lines(info, &mut lines);
        }
        let problems = self.problems();
        if !problems.is_empty() {
            lines.push(String::new());
            lines.extend(problems.iter().map(|problem| format!("! {problem}")));
        }
        lines
    }

    fn dataplane_lines(&self, info: &Value, lines: &mut Vec<String>) {
        lines.push(String::new());
        lines.push(format!(
            "data plane     {} on {}, pid {}, up {}",
            shown(&info["build"]),
            shown(&info["node"]),
            shown(&info["pid"]),
            age(info["uptime_s"].as_u64().map(|s| s.saturating_mul(1_000))),
        ));
        let listen: Vec<String> = info["listen"].as_array().into_iter().flatten().map(shown).collect();
        lines.push(format!("  listens      {}; status {}", listen.join(", "), shown(&info["status"])));
        lines.push(format!(
            "  serves       {} ({} routes, {} services, {} upstreams), for {}{}",
            version(&info["version"]).unwrap_or_else(|| "no configuration".to_owned()),
            shown(&self.snapshot["routes"]),
            shown(&self.snapshot["services"]),
            shown(&self.snapshot["upstreams"]),
            age(self.snapshot["applied_ms_ago"].as_u64()),
            if info["booted_from_disk"] == true { ", booted from disk" } else { "" },
        ));
        lines.push(format!(
            "  traffic      {} connections, {} requests so far; {}",
            shown(&info["connections"]),
            shown(&info["requests_total"]),
            match info["last_control_plane_ms_ago"].as_u64() {
                Some(ms) => format!("heard from a control plane {} ago", age(Some(ms))),
                None => "no control plane was heard yet".to_owned(),
            },
        ));
        lines.push(format!(
            "  {:<5} {:<4} {:<28} {:>11} {:>12}  turned",
            "core", "cpu", "version", "connections", "requests"
        ));
        for core in self.cores.as_array().into_iter().flatten() {
            lines.push(format!(
                "  {:<5} {:<4} {:<28} {:>11} {:>12}  {} ago",
                shown(&core["core"]),
                shown(&core["cpu"]),
                version(&core["version"]).unwrap_or_else(|| "-".to_owned()),
                shown(&core["connections"]),
                shown(&core["requests"]),
                age(core["turned_ms_ago"].as_u64()),
            ));
        }
    }
}

fn control_problems(control: &Value, problems: &mut Vec<String>) {
    let source = &control["source"];
    let state = source["state"].as_str().unwrap_or("unknown");
    if !matches!(state, "connected" | "reading a standby") {
        let error = source["last_error"].as_str().map(|error| format!(": {}", plain(error)));
        problems.push(format!("the control plane's source is {state}{}", error.unwrap_or_default()));
    }
    if let ("reading a standby", Some(note)) = (state, source["last_error"].as_str()) {
        problems.push(format!("the control plane reads a standby: {}", plain(note)));
    }
    let dataplane = &control["dataplane"];
    refusal_problems(&control["refused"], " by the control plane", problems);
    refusal_problems(&dataplane["refused"], " by the data plane", problems);
    if dataplane["state"] != "connected" {
        let error = dataplane["last_error"].as_str().map(|error| format!(": {}", plain(error)));
        problems.push(format!(
            "the control plane is not connected to the data plane at {}{}",
            shown(&dataplane["socket"]),
            error.unwrap_or_default()
        ));
    }
}

fn refusal_problems(refused: &Value, by: &str, problems: &mut Vec<String>) {
    let Some(refused) = refused.as_object() else { return };
    let revision = refused.get("revision").map(shown).unwrap_or_default();
    let faults = refused.get("faults").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for fault in faults {
        problems.push(format!("revision {revision} is refused{by}: {}", fault_text(fault)));
    }
    if faults.is_empty() {
        let reason = ["text", "reason"].iter().find_map(|name| refused.get(*name)?.as_str());
        problems.push(format!(
            "revision {revision} is refused{by}: {}",
            plain(reason.unwrap_or("no reason given"))
        ));
    }
}

fn control_lines(control: &Value, lines: &mut Vec<String>) {
    let source = &control["source"];
    lines.push(String::new());
    lines.push(format!(
        "control plane  {} on {}, pid {}",
        shown(&control["build"]),
        shown(&control["node"]),
        shown(&control["pid"]),
    ));
    lines.push(format!(
        "  source       {} {}: {} for {}",
        shown(&source["kind"]),
        shown(&source["detail"]),
        shown(&source["state"]),
        age(source["since_ms_ago"].as_u64()),
    ));
    lines.push(format!(
        "  version      {} ({} objects, digest {})",
        version(&control["version"]).unwrap_or_else(|| "none".to_owned()),
        shown(&control["version"]["objects"]),
        shown(&control["version"]["digest"]),
    ));
    let dataplane = &control["dataplane"];
    lines.push(format!("  pushes to    {} ({})", shown(&dataplane["socket"]), shown(&dataplane["state"])));
}

/// A plane's reply as JSON; an `error:` is one.
pub(crate) fn parsed(plane: &str, text: &str) -> Result<Value, String> {
    let line = text.lines().next().unwrap_or_default();
    if let Some(error) = line.strip_prefix("error:") {
        return Err(format!("the {plane} answers an error:{}", plain(error)));
    }
    serde_json::from_str(text)
        .map_err(|error| format!("the {plane} answers what is not JSON ({error}): {:?}", plain(line)))
}

/// The version's short text, as logs have it.
pub(crate) fn version(version: &Value) -> Option<String> {
    if let Some(text) = version["text"].as_str().or(version.as_str()) {
        return Some(plain(text));
    }
    let lineage = version["lineage"].as_str()?;
    Some(format!("{}:{}:{}", plain(lineage), version["timeline"], version["revision"]))
}

fn fault_text(fault: &Value) -> String {
    // A fault of the configuration as such belongs to no object.
    if fault["id"] == "" {
        return shown(&fault["reason"]);
    }
    let at = match fault["pointer"].as_str() {
        None | Some("") => String::new(),
        Some(pointer) => format!(" at {}", plain(pointer)),
    };
    format!("{}/{}{at}: {}", shown(&fault["kind"]), shown(&fault["id"]), shown(&fault["reason"]))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

fn age(ms: Option<u64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10_000 => format!("{ms} ms"),
        Some(ms) if ms < 600_000 => format!("{} s", ms / 1_000),
        Some(ms) if ms < 36_000_000 => format!("{} min", ms / 60_000),
        Some(ms) => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_at(revision: u64) -> Value {
        json!({"lineage": "00000000000000ab", "timeline": 1, "revision": revision, "digest": "0f",
               "text": format!("00000000000000ab:1:{revision}"), "objects": 4})
    }

    fn report(revision_of_core_1: u64) -> Report {
        Report {
            control: Ok(json!({
                "build": "0.1.0", "node": "n1", "pid": 7,
                "source": {"kind": "postgresql", "detail": "db/ringway", "state": "connected", "since_ms_ago": 20_000, "last_error": null},
                "version": version_at(5), "refused": null,
                "dataplane": {"socket": "/x/feed.sock", "state": "connected", "version": version_at(5), "last_error": null},
            })),
            info: Ok(json!({
                "build": "0.1.0", "node": "n1", "pid": 8, "uptime_s": 40, "workers": 2, "listen": ["127.0.0.1:9080"],
                "status": "127.0.0.1:9091", "version": version_at(5), "draining": false, "last_refusal": null,
                "connections": 0, "requests_total": 3, "last_control_plane_ms_ago": 300, "booted_from_disk": false,
            })),
            snapshot: json!({"routes": 2, "services": 1, "upstreams": 1, "applied_ms_ago": 900}),
            cores: json!([
                {"core": 0, "cpu": 0, "version": version_at(5), "connections": 0, "requests": 1, "turned_ms_ago": 1, "dead": false},
                {"core": 1, "cpu": 1, "version": version_at(revision_of_core_1), "connections": 0, "requests": 2, "turned_ms_ago": 1, "dead": false},
            ]),
        }
    }

    #[test]
    fn all_cores_on_the_control_planes_version_is_in_step() {
        let report = report(5);
        assert_eq!((report.problems(), report.verdict().exit_code()), (vec![], 0));
        let table = report.lines().join("\n");
        assert!(table.contains("00000000000000ab:1:5 (2 routes, 1 services, 1 upstreams)"), "{table}");
    }

    #[test]
    fn one_core_behind_is_degraded_and_named() {
        let report = report(4);
        assert_eq!(report.verdict().exit_code(), 1);
        assert_eq!(
            report.problems(),
            ["core 1 runs 00000000000000ab:1:4, the control plane has 00000000000000ab:1:5"]
        );
    }

    #[test]
    fn a_refused_revision_is_told_with_object_place_and_reason() {
        let mut report = report(5);
        let fault = json!({"kind": "routes", "id": "1", "pointer": "/uri", "reason": "must start with '/'"});
        report.control.as_mut().unwrap()["refused"] =
            json!({"version": "ab:1:6", "revision": 6, "faults": [fault]});
        assert_eq!(
            report.problems(),
            ["revision 6 is refused by the control plane: routes/1 at /uri: must start with '/'"]
        );
        assert_eq!(report.json()["verdict"], "degraded");
        // The data plane heard of it, and tells who refused where the control plane is gone.
        report.control = Err("gone".to_owned());
        let info = report.info.as_mut().unwrap();
        info["last_refusal"] = json!({"version": "ab:1:6", "by": "control plane", "text": "routes/1: no"});
        assert_eq!(report.problems(), ["gone", "the control plane refused version ab:1:6: routes/1: no"]);
    }

    #[test]
    fn a_refusal_by_the_version_rule_is_told_in_its_own_words_and_a_late_standby_is_told() {
        let mut report = report(5);
        let control = report.control.as_mut().unwrap();
        let fault =
            json!({"kind": "snapshot", "id": "", "pointer": "", "reason": "version x is older than y"});
        control["dataplane"]["refused"] = json!({"version": "ab:1:4", "revision": 4, "faults": [fault]});
        control["source"]["state"] = json!("reading a standby");
        control["source"]["last_error"] = json!("the standby is late");
        assert_eq!(
            report.problems(),
            [
                "the control plane reads a standby: the standby is late",
                "revision 4 is refused by the data plane: version x is older than y"
            ]
        );
    }

    #[test]
    fn one_plane_missing_is_degraded_and_both_missing_is_down() {
        let mut report = report(5);
        report.control = Err("is the control plane running?".to_owned());
        assert_eq!(report.verdict().exit_code(), 1);
        report.info = Err("is the data plane running?".to_owned());
        assert_eq!(report.verdict().exit_code(), 2);
        assert_eq!(report.json()["data_plane"], Value::Null);
    }
}
