//! From single measurements to what is reported: per case and peer the median over the rounds and the range, and the
//! ratio to the baseline taken within each round, so that what slows both down in one round cancels out. The same for
//! what idle connections cost in memory.

use serde_json::{Value, json};

use super::case::Case;
use super::peer::Peer;

/// One peer under one case in one round.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    pub(crate) round: usize,
    pub(crate) case: &'static str,
    pub(crate) peer: String,
    pub(crate) cpu_ns_per_request: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) proxy_cores: f64,
    pub(crate) proxy_waiting_cores: f64,
    pub(crate) foreign_cores: f64,
    pub(crate) tasks_vanished: u64,
    pub(crate) p99_ns: f64,
    /// Everything that `hammer` reported.
    pub(crate) raw: Value,
}

/// What one peer's idle connections took in one round.
#[derive(Clone, Debug)]
pub(crate) struct IdleMeasurement {
    pub(crate) round: usize,
    pub(crate) peer: String,
    pub(crate) connections: usize,
    /// Resident, after some requests and without connections.
    pub(crate) bytes_before: u64,
    pub(crate) bytes_held: u64,
}

/// Who takes part in a case, and whom ratios are to.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) case: Case,
    pub(crate) labels: Vec<String>,
    pub(crate) baseline: String,
}

impl Contest {
    pub(crate) fn new(case: Case, peers: &[Peer], baseline: &str) -> Self {
        let labels = case.entrants(peers).into_iter().map(|entrant| entrant.label).collect();
        Self { case, labels, baseline: case.baseline(baseline).to_owned() }
    }
}

/// Median and range of a figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) peer: String,
    pub(crate) rounds: usize,
    pub(crate) cpu_ns_per_request: Spread,
    /// `None` when the baseline was not measured.
    pub(crate) ratio: Option<Spread>,
    /// The ratio of each round.
    pub(crate) ratios: Vec<f64>,
    /// Where the median of all possible rounds is, with 95 % confidence; `None` with fewer than six rounds.
    pub(crate) confidence: Option<(f64, f64)>,
    pub(crate) requests_per_second: Spread,
    pub(crate) proxy_cores: Spread,
    /// Ready to run, and not running because something else had the core.
    pub(crate) proxy_waiting_cores: Spread,
    pub(crate) foreign_cores: Spread,
    pub(crate) p99_ns: Spread,
    /// Tasks of the peer that ended while it was measured, in all rounds: their time is missing.
    pub(crate) tasks_vanished: u64,
}

/// One line of what idle connections cost.
#[derive(Clone, Debug)]
pub(crate) struct IdleRow {
    pub(crate) peer: String,
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
    pub(crate) bytes_per_connection: Spread,
    pub(crate) all: Vec<f64>,
    pub(crate) ratio: Option<Spread>,
    pub(crate) bytes_before: Spread,
    pub(crate) bytes_held: Spread,
}

impl IdleMeasurement {
    pub(crate) fn bytes_per_connection(&self) -> f64 {
        self.bytes_held.saturating_sub(self.bytes_before) as f64 / self.connections.max(1) as f64
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "round": self.round,
            "peer": self.peer,
            "connections": self.connections,
            "bytes_before": self.bytes_before,
            "bytes_held": self.bytes_held,
        })
    }
}

impl IdleRow {
    pub(crate) fn json(&self) -> Value {
        json!({
            "case": "idle",
            "peer": self.peer,
            "rounds": self.rounds,
            "connections": self.connections,
            "bytes_per_connection": self.bytes_per_connection.json(),
            "ratio": self.ratio.map(|ratio| ratio.json()),
            "bytes_before": self.bytes_before.json(),
            "bytes_held": self.bytes_held.json(),
        })
    }
}

impl Measurement {
    /// Reads `hammer`'s JSON; `None` when a figure is missing.
    pub(crate) fn read(round: usize, case: &'static str, peer: &str, raw: Value) -> Option<Self> {
        Some(Self {
            round,
            case,
            peer: peer.to_owned(),
            cpu_ns_per_request: raw.get("proxy_cpu_ns_per_request")?.as_f64()?,
            requests_per_second: raw.get("requests_per_second")?.as_f64()?,
            proxy_cores: raw.get("proxy_cores")?.as_f64()?,
            proxy_waiting_cores: raw.get("proxy_waiting_cores")?.as_f64()?,
            foreign_cores: raw.get("foreign_cores")?.as_f64()?,
            tasks_vanished: raw.get("proxy_tasks_vanished")?.as_u64()?,
            p99_ns: raw.get("latency_ns")?.get("p99")?.as_f64()?,
            raw,
        })
    }
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    fn json(&self) -> Value {
        json!({"median": self.median, "min": self.min, "max": self.max})
    }
}

impl Row {
    pub(crate) fn json(&self) -> Value {
        json!({
            "case": self.case,
            "peer": self.peer,
            "rounds": self.rounds,
            "ratio_confidence": self.confidence.map(|(low, high)| [low, high]),
            "cpu_ns_per_request": self.cpu_ns_per_request.json(),
            "ratio": self.ratio.map(|ratio| ratio.json()),
            "requests_per_second": self.requests_per_second.json(),
            "proxy_cores": self.proxy_cores.json(),
            "proxy_waiting_cores": self.proxy_waiting_cores.json(),
            "foreign_cores": self.foreign_cores.json(),
            "p99_ns": self.p99_ns.json(),
            "tasks_vanished": self.tasks_vanished,
        })
    }
}

/// Rows by case and then peer, in the order in which both are given.
pub(crate) fn rows(measurements: &[Measurement], contests: &[Contest]) -> Vec<Row> {
    let pairs = contests.iter().flat_map(|contest| contest.labels.iter().map(move |peer| (contest, peer)));
    pairs
        .filter_map(|(contest, peer)| row(measurements, contest.case.name, peer, &contest.baseline))
        .collect()
}

/// Rows of the memory of idle connections, by peer.
pub(crate) fn idle_rows(measurements: &[IdleMeasurement], contests: &[Contest]) -> Vec<IdleRow> {
    let Some(contest) = contests.iter().find(|contest| contest.case.name == "idle") else {
        return Vec::new();
    };
    contest.labels.iter().filter_map(|peer| idle_row(measurements, peer, &contest.baseline)).collect()
}

fn idle_row(measurements: &[IdleMeasurement], peer: &str, baseline: &str) -> Option<IdleRow> {
    let ours: Vec<&IdleMeasurement> = measurements.iter().filter(|one| one.peer == peer).collect();
    let spread =
        |figure: fn(&IdleMeasurement) -> f64| Spread::of(ours.iter().map(|one| figure(one)).collect());
    let ratios = ours.iter().filter_map(|one| {
        let other = measurements.iter().find(|other| other.peer == baseline && other.round == one.round)?;
        (other.bytes_per_connection() > 0.0)
            .then(|| one.bytes_per_connection() / other.bytes_per_connection())
    });
    Some(IdleRow {
        peer: peer.to_owned(),
        rounds: ours.len(),
        connections: ours.first()?.connections,
        bytes_per_connection: spread(IdleMeasurement::bytes_per_connection)?,
        all: ours.iter().map(|one| one.bytes_per_connection()).collect(),
        ratio: Spread::of(ratios.collect()),
        bytes_before: spread(|one| one.bytes_before as f64)?,
        bytes_held: spread(|one| one.bytes_held as f64)?,
    })
}

/// The range that holds the median with 95 % confidence, whatever the values' distribution: from one order statistic to the one opposite.
/// How many of n values are below the median is binomial.
fn confidence(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let mut probability = 0.5_f64.powi(i32::try_from(values.len()).ok()?);
    let (mut below, mut place) = (0.0, 0);
    // So many values are outside on each side.
    while below + probability <= 0.025 && place < values.len() / 2 {
        below += probability;
        probability *= (values.len() - place) as f64 / (place + 1) as f64;
        place += 1;
    }
    let first = place.checked_sub(1)?;
    Some((*values.get(first)?, *values.get(values.len() - 1 - first)?))
}

fn row(measurements: &[Measurement], case: &'static str, peer: &str, baseline: &str) -> Option<Row> {
    let of = |name: &str| -> Vec<&Measurement> {
        measurements.iter().filter(|one| one.case == case && one.peer == name).collect()
    };
    let (ours, theirs) = (of(peer), of(baseline));
    let spread = |figure: fn(&Measurement) -> f64| Spread::of(ours.iter().map(|one| figure(one)).collect());
    let ratios = ours.iter().filter_map(|one| {
        let other = theirs.iter().find(|other| other.round == one.round)?;
        (other.cpu_ns_per_request > 0.0).then(|| one.cpu_ns_per_request / other.cpu_ns_per_request)
    });
    let ratios: Vec<f64> = ratios.collect();
    Some(Row {
        case,
        peer: peer.to_owned(),
        rounds: ours.len(),
        cpu_ns_per_request: spread(|one| one.cpu_ns_per_request)?,
        ratio: Spread::of(ratios.clone()),
        confidence: confidence(ratios.clone()),
        ratios,
        requests_per_second: spread(|one| one.requests_per_second)?,
        proxy_cores: spread(|one| one.proxy_cores)?,
        proxy_waiting_cores: spread(|one| one.proxy_waiting_cores)?,
        foreign_cores: spread(|one| one.foreign_cores)?,
        p99_ns: spread(|one| one.p99_ns)?,
        tasks_vanished: ours.iter().map(|one| one.tasks_vanished).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contest(labels: &[&str]) -> [Contest; 1] {
        let case = Case { name: "c", ..super::super::case::CASES[0] };
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        [Contest { case, labels, baseline: "nginx".into() }]
    }

    fn measurement(round: usize, peer: &str, cpu_ns: f64) -> Measurement {
        Measurement {
            round,
            case: "c",
            peer: peer.into(),
            cpu_ns_per_request: cpu_ns,
            requests_per_second: 1.0,
            proxy_cores: 1.0,
            proxy_waiting_cores: 0.0,
            foreign_cores: 0.0,
            tasks_vanished: 0,
            p99_ns: 1.0,
            raw: Value::Null,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was half as fast in the second round; the ratio does not show it.
        let measurements = [
            measurement(0, "nginx", 10.0),
            measurement(0, "ours", 7.0),
            measurement(1, "ours", 14.0),
            measurement(1, "nginx", 20.0),
            measurement(2, "nginx", 10.0),
            measurement(2, "ours", 8.0),
        ];
        let rows = rows(&measurements, &contest(&["ours", "nginx", "absent"]));
        let [ours, nginx] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(ours.ratio, Some(Spread { median: 0.7, min: 0.7, max: 0.8 }));
        assert_eq!(ours.cpu_ns_per_request, Spread { median: 8.0, min: 7.0, max: 14.0 });
        assert_eq!(nginx.ratio, Some(Spread { median: 1.0, min: 1.0, max: 1.0 }));
        assert_eq!(ours.rounds, 3);
    }

    #[test]
    fn the_median_is_within_its_confidence_as_often_as_is_said() {
        let of = |count: u32| confidence((1..=count).map(f64::from).collect());
        // The tables of the sign test.
        assert_eq!([of(0), of(5)], [None, None]);
        assert_eq!([of(6), of(10), of(20)], [Some((1.0, 6.0)), Some((2.0, 9.0)), Some((6.0, 15.0))]);
        assert_eq!(of(100), Some((40.0, 61.0)));
    }

    #[test]
    fn without_a_baseline_there_is_no_ratio() {
        let rows = rows(&[measurement(0, "ours", 7.0)], &contest(&["ours"]));
        assert_eq!(rows[0].ratio, None);
    }

    #[test]
    fn an_idle_connection_costs_what_was_not_there_before() {
        let one = |peer: &str, bytes_held| IdleMeasurement {
            round: 0,
            peer: peer.into(),
            connections: 1000,
            bytes_before: 5_000_000,
            bytes_held,
        };
        let mut contests = contest(&["ours", "nginx", "absent"]);
        contests[0].case.name = "idle";
        let rows = idle_rows(&[one("nginx", 6_000_000), one("ours", 7_000_000)], &contests);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].bytes_per_connection.median, 2000.0);
        assert_eq!(rows[0].ratio.unwrap().median, 2.0);
    }

    #[test]
    fn a_median_of_an_even_number_is_the_middle() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(vec![]), None);
    }
}
