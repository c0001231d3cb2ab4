//! Ringway's own options of an upstream: what APISIX's object has no field for.
//!
//! They stand in `labels` under names that begin with `ringway.`, because every tool that knows APISIX's objects passes
//! labels on. An unknown one is refused, so that a misspelt option does not look like one that is set.

use super::Wrong;
use crate::model::Labels;

/// The options, with their defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// `ringway.hash-balance`: with `chash`, no node has more than so many times its share of the open requests; `None`: no bound.
    pub hash_balance: Option<f64>,
    /// `ringway.panic-percent`: with a smaller share of usable nodes than this, all are used. At 0 only when none is usable.
    pub panic_percent: u8,
    /// `ringway.retry-percent`: tries that load a node again, as a share of the requests; `None`: no limit.
    pub retry_percent: Option<u32>,
    /// `ringway.eject-failures`: so many failures in a row keep a node out for a while; 0: never.
    pub eject_failures: u32,
    /// `ringway.eject-percent`: or such a share of failures among recent requests; 0: never.
    pub eject_percent: u8,
    /// `ringway.eject-ms`: how long the first time; each further time twice as long.
    pub eject_ms: u32,
    /// `ringway.eject-ms-max`: how long at most.
    pub eject_ms_max: u32,
    /// `ringway.node-requests-max`: open requests of one core at one node; `None`: no limit.
    pub node_requests_max: Option<u32>,
    /// `ringway.pending-max`: requests of one core that may wait for room when all nodes are full; 0: none waits.
    pub pending_max: u32,
    /// `ringway.pending-wait-ms`: for how long.
    pub pending_wait_ms: u32,
    /// `ringway.slow-start-s`: so long the share of a node that is new or came back grows; 0: it has all of it at once.
    pub slow_start_s: u32,
    /// `ringway.silence-ms`: a node that says nothing at all for so long is left out, and who waits for it is tried elsewhere; 0: never.
    pub silence_ms: u32,
    /// `ringway.hedge-ms`: after so long without an answer a second try begins beside the first; `None`: never.
    pub hedge_ms: Option<u32>,
    /// `ringway.zone-prefer`: nodes of the gateway's own zone come first.
    pub zone_prefer: bool,
    /// `ringway.zone-spill-percent`: with a smaller usable share of the own zone than this, requests spill over to the others; 0: only when
    /// none of its nodes is usable.
    pub zone_spill_percent: u8,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            hash_balance: None,
            panic_percent: 0,
            retry_percent: Some(20),
            eject_failures: 5,
            eject_percent: 0,
            eject_ms: 2_000,
            eject_ms_max: 60_000,
            node_requests_max: None,
            pending_max: 0,
            pending_wait_ms: 1_000,
            slow_start_s: 0,
            silence_ms: 3_000,
            hedge_ms: None,
            zone_prefer: false,
            zone_spill_percent: 70,
        }
    }
}

const PREFIX: &str = "ringway.";
const MINUTE_MS: u32 = 60_000;
const HOUR_MS: u32 = 3_600_000;
const DAY_MS: u32 = 86_400_000;
const OPTIONS: &str = "hash-balance, panic-percent, retry-percent, eject-failures, eject-percent, eject-ms, eject-ms-max, \
    node-requests-max, pending-max, pending-wait-ms, slow-start-s, silence-ms, hedge-ms, zone-prefer and \
    zone-spill-percent";

impl Tuning {
    /// Reads the labels that are options.
    pub fn read(labels: &Labels) -> Result<Tuning, Vec<Wrong>> {
        let mut tuning = Tuning::default();
        let mut wrong = Vec::new();
        for (label, value) in labels.iter() {
            let Some(name) = label.strip_prefix(PREFIX) else { continue };
            if let Err(reason) = tuning.set(name, value) {
                wrong.push((format!("/labels/{}", label.replace('~', "~0").replace('/', "~1")), reason));
            }
        }
        if tuning.eject_ms > tuning.eject_ms_max {
            let reason = format!("is below \"ringway.eject-ms\", {}", tuning.eject_ms);
            wrong.push((format!("/labels/{PREFIX}eject-ms-max"), reason));
        }
        if tuning.pending_max > 0 && tuning.node_requests_max.is_none() {
            let reason = format!("needs \"{PREFIX}node-requests-max\": without it no node is ever full");
            wrong.push((format!("/labels/{PREFIX}pending-max"), reason));
        }
        if wrong.is_empty() { Ok(tuning) } else { Err(wrong) }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "hash-balance" => {
                let factor: f64 = value.parse().map_err(|_| "must be a number such as 1.25".to_owned())?;
                if !(1.0..=100.0).contains(&factor) || factor == 1.0 {
                    return Err("must be above 1, and 100 at most".to_owned());
                }
                self.hash_balance = Some(factor);
            }
            "panic-percent" => self.panic_percent = percent(value, 100)?,
            "retry-percent" => {
                self.retry_percent = if value == "off" { None } else { Some(number(value, 0, 1_000)?) };
            }
            "eject-failures" => {
                self.eject_failures = if value == "off" { 0 } else { number(value, 0, 10_000)? }
            }
            "eject-percent" => self.eject_percent = percent(value, 100)?,
            "eject-ms" => self.eject_ms = number(value, 1, DAY_MS)?,
            "eject-ms-max" => self.eject_ms_max = number(value, 1, DAY_MS)?,
            "node-requests-max" => self.node_requests_max = Some(number(value, 1, 1_000_000)?),
            "pending-max" => self.pending_max = number(value, 0, 1_000_000)?,
            "pending-wait-ms" => self.pending_wait_ms = number(value, 1, MINUTE_MS)?,
            "slow-start-s" => self.slow_start_s = number(value, 0, 3_600)?,
            "silence-ms" => self.silence_ms = if value == "off" { 0 } else { number(value, 100, HOUR_MS)? },
            "hedge-ms" => {
                self.hedge_ms = if value == "off" { None } else { Some(number(value, 1, MINUTE_MS)?) }
            }
            "zone-prefer" => self.zone_prefer = switch(value)?,
            "zone-spill-percent" => self.zone_spill_percent = percent(value, 100)?,
            _ => return Err(format!("is not an option; they are {OPTIONS}")),
        }
        Ok(())
    }
}

fn number(value: &str, min: u32, max: u32) -> Result<u32, String> {
    let parsed = value.parse().ok().filter(|number| (min..=max).contains(number));
    parsed.ok_or_else(|| format!("must be a number from {min} to {max}"))
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

fn percent(value: &str, max: u8) -> Result<u8, String> {
    let parsed = value.parse().ok().filter(|number| *number <= max);
    parsed.ok_or_else(|| format!("must be a percentage from 0 to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(&str, &str)]) -> Result<Tuning, Vec<Wrong>> {
        Tuning::read(&labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn other_labels_are_nobodys_business() {
        assert_eq!(read(&[("team", "shop"), ("ringways", "x")]), Ok(Tuning::default()));
    }

    #[test]
    fn options_are_read_and_misspelt_ones_refused() {
        let tuning = read(&[("ringway.hash-balance", "1.25"), ("ringway.retry-percent", "off")]).unwrap();
        assert_eq!((tuning.hash_balance, tuning.retry_percent), (Some(1.25), None));
        for (name, value) in [
            ("ringway.hash-balanced", "1.25"),
            ("ringway.hash-balance", "1"),
            ("ringway.hash-balance", "NaN"),
            ("ringway.panic-percent", "101"),
            ("ringway.eject-ms", "0"),
            ("ringway.eject-ms-max", "1"),
            ("ringway.pending-max", "5"),
            ("ringway.slow-start-s", "3601"),
            ("ringway.silence-ms", "99"),
            ("ringway.hedge-ms", "0"),
            ("ringway.zone-prefer", "true"),
            ("ringway.zone-spill-percent", "101"),
        ] {
            let wrong = read(&[(name, value)]).unwrap_err();
            assert_eq!(wrong[0].0, format!("/labels/{name}"));
        }
    }
}
