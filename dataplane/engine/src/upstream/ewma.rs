//! Peak EWMA of latency: of two nodes, drawn by weight, the one that answers faster for what is open at it.
//!
//! The average decays with time, with the constant that APISIX has, also while a node gets nothing: so one that was slow is tried
//! again. A node without an answer yet counts as fast as the mean of the others, so that it is not flooded.
//! The draw comes from a counter that is seeded by whoever makes this: the engine has no randomness of its own.

use super::round_robin::mix;

/// In so much time an old latency loses all but 1/e of its weight.
const DECAY_MS: f64 = 10_000.0;
/// Draws that may hit a skipped node before the nodes are walked.
const DRAWS_MAX: u32 = 8;

/// Nodes by latency.
#[derive(Debug)]
pub(super) struct Ewma {
    nodes: Vec<Pace>,
    /// Beside each node the sum of the weights up to it.
    sums: Vec<u64>,
    draws: u64,
}

/// How fast one node answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Pace {
    weight: u32,
    open: u32,
    /// Microseconds; `None`: it has not answered yet.
    latency_us: Option<f64>,
    at_ms: u64,
}

impl Pace {
    fn now(&self, now_ms: u64) -> Option<f64> {
        let passed = now_ms.saturating_sub(self.at_ms);
        Some(self.latency_us? * decay(passed))
    }
}

impl Ewma {
    pub(super) fn new(nodes: usize, seed: u64) -> Ewma {
        Ewma { nodes: vec![Pace::default(); nodes], sums: vec![0; nodes], draws: mix(seed) }
    }

    pub(super) fn set(&mut self, node: u32, weight: u32) {
        let Some(pace) = self.nodes.get_mut(node as usize) else { return };
        if pace.weight == weight {
            return;
        }
        pace.weight = weight;
        let mut sum = 0u64;
        for (pace, slot) in self.nodes.iter().zip(&mut self.sums) {
            sum = sum.saturating_add(u64::from(pace.weight));
            *slot = sum;
        }
    }

    pub(super) fn load(&mut self, node: u32, open: u32) {
        if let Some(pace) = self.nodes.get_mut(node as usize) {
            pace.open = open;
        }
    }

    /// A node has answered after so long.
    pub(super) fn answered(&mut self, node: u32, latency_us: u64, now_ms: u64) {
        let mean = self.mean(now_ms);
        let Some(pace) = self.nodes.get_mut(node as usize) else { return };
        #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 microseconds")]
        let sample = latency_us as f64;
        let old = pace.latency_us.or(mean);
        let keep = decay(now_ms.saturating_sub(pace.at_ms));
        pace.latency_us = Some(match old {
            // A peak counts at once: a node that stalls is left at its first slow answer.
            Some(old) if sample < old => old * keep + sample * (1.0 - keep),
            _ => sample,
        });
        pace.at_ms = now_ms;
    }

    /// The node's latency as it counts now.
    pub(super) fn latency_us(&self, node: u32, now_ms: u64) -> Option<f64> {
        self.nodes.get(node as usize)?.now(now_ms)
    }

    pub(super) fn pick(&mut self, now_ms: u64, skip: impl Fn(u32) -> bool) -> Option<u32> {
        let first = self.draw(&skip)?;
        let Some(second) = self.draw(|node| node == first || skip(node)) else { return Some(first) };
        Some(if self.cost(second, now_ms) < self.cost(first, now_ms) { second } else { first })
    }

    fn cost(&self, node: u32, now_ms: u64) -> f64 {
        let Some(pace) = self.nodes.get(node as usize) else { return f64::INFINITY };
        let latency = pace.now(now_ms).or_else(|| self.mean(now_ms)).unwrap_or(0.0);
        // Decayed to nothing is as good as unknown: differences below this are not worth a choice.
        latency.max(LATENCY_US_MIN) * (f64::from(pace.open) + 1.0)
    }

    /// Known latencies' mean over the first nodes, which is enough for a guess.
    fn mean(&self, now_ms: u64) -> Option<f64> {
        let (sum, count) = self
            .nodes
            .iter()
            .take(MEAN_OF_MAX)
            .filter_map(|pace| pace.now(now_ms))
            .fold((0.0, 0.0), |(sum, count), latency| (sum + latency, count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    fn draw(&mut self, skip: impl Fn(u32) -> bool) -> Option<u32> {
        let total = *self.sums.last().filter(|total| **total > 0)?;
        let mut at = 0;
        for _ in 0..DRAWS_MAX {
            self.draws = self.draws.wrapping_add(1);
            let ticket = mix(self.draws) % total;
            at = self.sums.partition_point(|sum| *sum <= ticket);
            if let Some(node) = u32::try_from(at).ok().filter(|node| !skip(*node)) {
                return Some(node);
            }
        }
        let nodes = self.nodes.len();
        let around = (0..nodes).map(|step| (at + step) % nodes);
        let weighted = around.filter(|at| self.nodes.get(*at).is_some_and(|pace| pace.weight > 0));
        weighted.filter_map(|at| u32::try_from(at).ok()).find(|node| !skip(*node))
    }

    pub(super) fn pace(&self, node: u32) -> Pace {
        self.nodes.get(node as usize).copied().unwrap_or_default()
    }

    /// Takes over what is known of a node from another state.
    pub(super) fn resume(&mut self, node: u32, pace: Pace) {
        if let Some(known) = self.nodes.get_mut(node as usize) {
            (known.latency_us, known.at_ms, known.open) = (pace.latency_us, pace.at_ms, pace.open);
        }
    }
}

/// Below this no latency differs from another.
const LATENCY_US_MIN: f64 = 50.0;
/// Nodes whose mean is the guess for one that has not answered.
const MEAN_OF_MAX: usize = 16;

fn decay(passed_ms: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "what is that long ago has decayed anyway")]
    let passed = passed_ms as f64;
    (-passed / DECAY_MS).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(weights: &[u32]) -> Ewma {
        let mut nodes = Ewma::new(weights.len(), 3);
        for (node, weight) in (0..).zip(weights) {
            nodes.set(node, *weight);
        }
        nodes
    }

    fn counts(nodes: &mut Ewma, picks: u32, latencies_us: &[u64], skip: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut counts = vec![0; latencies_us.len()];
        for pick in 0..picks {
            let now_ms = u64::from(pick) * 2;
            let node = nodes.pick(now_ms, &skip).unwrap();
            nodes.answered(node, latencies_us[node as usize], now_ms);
            counts[node as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_slow_node_gets_little_but_is_not_forgotten() {
        let counts = counts(&mut of(&[1, 1, 1]), 20_000, &[1_000, 1_000, 50_000], |_| false);
        assert!(counts[2] > 0 && counts[2] < 200, "{counts:?}");
    }

    #[test]
    fn equally_fast_nodes_share_by_weight() {
        let mut nodes = of(&[3, 2, 0, 5]);
        let mut counts = [0u32; 4];
        for pick in 0..100_000u64 {
            counts[nodes.pick(pick, |_| false).unwrap() as usize] += 1;
        }
        for (count, share) in counts.iter().zip([0.3, 0.2, 0.0, 0.5]) {
            assert!((f64::from(*count) / 1e5 - share).abs() < 0.01, "{counts:?}");
        }
    }

    #[test]
    fn skipped_nodes_are_never_picked() {
        let mut nodes = of(&[1_000_000, 1, 0]);
        assert_eq!(counts(&mut nodes, 100, &[9, 9, 9], |node| node == 0), [0, 100, 0]);
        assert_eq!(nodes.pick(0, |node| node != 2), None);
        assert_eq!(of(&[]).pick(0, |_| false), None);
    }
}
