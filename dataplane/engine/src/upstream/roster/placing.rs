//! Brings a roster's balancers up to date: with what probes and operators say of a node, with its breaker, with how full and how warm it is.
//!
//! A priority's panic and what stays in the own zone follow from all of its nodes together, whether they stand in one tier or in two. Costs
//! O(1) for a node, and O(nodes) only where a panic begins or ends.

use ringway_snapshot::model::Balancer;

use super::super::standing::{NodeStanding, Order};
use super::super::warmth::Warmth;
use super::super::zones::{Part, Weights};
use super::super::{Cluster, Endpoint};
use super::{Node, Roster, Tier};

impl Roster {
    /// Applies what is known of a node from elsewhere.
    pub(super) fn instruct(&mut self, index: usize) {
        let (Some(node), Some(endpoint)) = (self.nodes.get_mut(index), self.cluster.endpoints.get(index))
        else {
            return;
        };
        node.standing =
            self.standing.as_ref().map_or_else(NodeStanding::default, |s| s.of(&endpoint.address));
        // On a ring a weight is points, which are made where no request is served: here a node can only be taken off it.
        let is_ring = self.cluster.balancer == Balancer::Chash;
        let ordered = node.standing.weight.filter(|weight| !is_ring || *weight == 0);
        node.weight = ordered.unwrap_or(endpoint.weight);
        self.refresh(index);
    }

    /// Brings the balancer up to date with one node whose requests have changed. Mostly there is nothing to do.
    pub(super) fn note(&mut self, index: usize) {
        let Some(node) = self.nodes.get(index) else { return };
        let may_fill = self.cluster.tuning.node_requests_max.is_some();
        let usable = node.able && node.standing.healthy && node.breaker.is_usable();
        if may_fill || usable != node.usable {
            self.refresh(index);
        }
    }

    /// Brings the balancer up to date with one node.
    pub(super) fn refresh(&mut self, index: usize) {
        let Some((node, endpoint)) = self.nodes.get_mut(index).zip(self.cluster.endpoints.get(index)) else {
            return;
        };
        let number = node.tier as usize;
        let Some(tier) = self.tiers.get_mut(number) else { return };
        let able = node.standing.order == Order::Ready && node.weight > 0;
        let usable = able && node.standing.healthy && node.breaker.is_usable();
        tier.able = tier.able + u32::from(able) - u32::from(node.able);
        tier.usable = tier.usable + u32::from(usable) - u32::from(node.usable);
        if usable && !node.usable && !self.is_building && self.cluster.tuning.slow_start_s > 0 {
            node.warmth = Warmth::Cold;
            self.turn_at_ms = 0;
        }
        (node.able, node.usable) = (able, usable);
        let weighs = weigh(node, endpoint, &self.cluster);
        let moved = weighs != node.weighs;
        tier.weights.replace(node.weighs, weighs);
        node.weighs = weighs;
        let was_panic = tier.panics;
        let (first, last) = self.cluster.priority_of(number);
        let of_it = self.tiers.get(first..=last).unwrap_or_default();
        let (able, usable) = of_it.iter().fold((0u32, 0u32), |(a, u), tier| (a + tier.able, u + tier.usable));
        let percent = u32::from(self.cluster.tuning.panic_percent);
        let panics = usable == 0 || usable.saturating_mul(100) < percent.saturating_mul(able);
        if panics != was_panic {
            self.panic(first, last, panics);
        } else if let (Some(node), Some(tier)) = (self.nodes.get(index), self.tiers.get_mut(number)) {
            place(node, tier, &self.cluster);
        }
        if moved || panics != was_panic {
            self.settle(first);
        }
    }

    /// Begins or ends the panic of a priority, whose tiers these are.
    fn panic(&mut self, first: usize, last: usize, panics: bool) {
        for number in first..=last {
            let (Some(tier), Some(compiled)) = (self.tiers.get_mut(number), self.cluster.tiers.get(number))
            else {
                continue;
            };
            tier.panics = panics;
            for node in compiled.members.iter().filter_map(|member| self.nodes.get(*member as usize)) {
                place(node, tier, &self.cluster);
            }
        }
    }

    /// Says anew what stays in the own zone, where a priority has nodes there and elsewhere.
    fn settle(&mut self, first: usize) {
        let Some(Part::Own { zones }) = self.cluster.tiers.get(first).map(|tier| tier.part) else { return };
        let Some([own, rest]) = self.tiers.get_mut(first..first + 2) else { return };
        let percent = self.cluster.tuning.zone_spill_percent;
        own.spill.settle(&own.weights, &rest.weights, zones, percent, own.panics);
    }

    /// How many percent of the requests stay in the own zone, where a tier is of a priority with nodes there and elsewhere.
    pub(super) fn kept_percent(&self, number: usize) -> Option<u8> {
        let (first, last) = self.cluster.priority_of(number);
        self.tiers.get(first).filter(|_| last > first).map(|own| own.spill.percent())
    }
}

/// What a node adds to its tier's weights. On a ring there is no warmth.
fn weigh(node: &Node, endpoint: &Endpoint, cluster: &Cluster) -> Weights {
    let warms = cluster.tuning.slow_start_s > 0 && cluster.balancer != Balancer::Chash;
    let warm = |weight: u32| u64::from(Warmth::Warm.weigh(weight));
    let now = if warms { u64::from(node.warmth.weigh(node.weight)) } else { warm(node.weight) };
    let whole = if node.weight > 0 { node.weight } else { endpoint.weight };
    Weights {
        whole: warm(whole),
        able: if node.able { now } else { 0 },
        usable: if node.usable { now } else { 0 },
    }
}

/// Gives the balancer the node's weight, or none.
fn place(node: &Node, tier: &mut Tier, cluster: &Cluster) {
    let is_full = cluster.tuning.node_requests_max.is_some_and(|max| node.open >= max);
    let may = !is_full && if tier.panics { node.able } else { node.usable };
    let weight = if cluster.tuning.slow_start_s == 0 { node.weight } else { node.warmth.weigh(node.weight) };
    tier.picker.set(node.place, if may { weight } else { 0 });
}
