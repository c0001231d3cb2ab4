//! The closed set of balancers, over the nodes of one tier. Nodes are numbered within the tier.
//!
//! Invariant: none ever gives a node whose weight was set to 0, or that is skipped.

use ringway_snapshot::model::Balancer;

use super::chash::Chash;
use super::cluster::{Cluster, Tier};
use super::ewma::{Ewma, Pace};
use super::least_conn::LeastConn;
use super::round_robin::{RoundRobin, Turn};

/// A balancer's state.
#[derive(Debug)]
pub(super) enum Picker {
    RoundRobin(RoundRobin),
    Chash(Chash),
    LeastConn(LeastConn),
    Ewma(Ewma),
}

/// What is kept of a node when the set of nodes changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    Turn(Turn),
    Pace(Pace),
    Nothing,
}

impl Picker {
    pub(super) fn new(cluster: &Cluster, tier: &Tier, seed: u64) -> Picker {
        let nodes = tier.members.len();
        match (cluster.balancer, &tier.ring) {
            (Balancer::Chash, Some(ring)) => {
                Picker::Chash(Chash::new(ring.clone(), nodes, cluster.tuning.hash_balance))
            }
            (Balancer::LeastConn, _) => Picker::LeastConn(LeastConn::new(nodes)),
            (Balancer::Ewma, _) => Picker::Ewma(Ewma::new(nodes, seed)),
            (Balancer::RoundRobin | Balancer::Chash, _) => Picker::RoundRobin(RoundRobin::new(nodes, seed)),
        }
    }

    pub(super) fn set(&mut self, node: u32, weight: u32) {
        match self {
            Picker::RoundRobin(picker) => picker.set(node, weight),
            Picker::Chash(picker) => picker.set(node, weight),
            Picker::LeastConn(picker) => picker.set(node, weight),
            Picker::Ewma(picker) => picker.set(node, weight),
        }
    }

    pub(super) fn load(&mut self, node: u32, open: u32) {
        match self {
            Picker::RoundRobin(_) => {}
            Picker::Chash(picker) => picker.load(node, open),
            Picker::LeastConn(picker) => picker.load(node, open),
            Picker::Ewma(picker) => picker.load(node, open),
        }
    }

    pub(super) fn answered(&mut self, node: u32, latency_us: u64, now_ms: u64) {
        if let Picker::Ewma(picker) = self {
            picker.answered(node, latency_us, now_ms);
        }
    }

    pub(super) fn latency_us(&self, node: u32, now_ms: u64) -> Option<f64> {
        match self {
            Picker::Ewma(picker) => picker.latency_us(node, now_ms),
            _ => None,
        }
    }

    pub(super) fn pick(&mut self, hash: u64, now_ms: u64, skip: impl Fn(u32) -> bool) -> Option<u32> {
        match self {
            Picker::RoundRobin(picker) => picker.pick(skip),
            Picker::Chash(picker) => picker.pick(hash, skip),
            Picker::LeastConn(picker) => picker.pick(skip),
            Picker::Ewma(picker) => picker.pick(now_ms, skip),
        }
    }

    pub(super) fn keep(&self, node: u32) -> Kept {
        match self {
            Picker::RoundRobin(picker) => Kept::Turn(picker.turn(node)),
            Picker::Ewma(picker) => Kept::Pace(picker.pace(node)),
            Picker::Chash(_) | Picker::LeastConn(_) => Kept::Nothing,
        }
    }

    pub(super) fn resume(&mut self, node: u32, kept: Kept) {
        match (self, kept) {
            (Picker::RoundRobin(picker), Kept::Turn(turn)) => picker.resume(node, turn),
            (Picker::Ewma(picker), Kept::Pace(pace)) => picker.resume(node, pace),
            _ => {}
        }
    }
}
