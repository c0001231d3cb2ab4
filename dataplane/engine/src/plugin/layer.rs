//! Plugins of a consumer and its group, and how they come to those of the routes that its requests take.
//!
//! As in APISIX a consumer's plugin stands in place of its group's, and that in place of the route's. Which route and which consumer meet is
//! only known with the request, so both sides are compiled and sorted beforehand and here merged as they are walked: nothing is
//! built for a request.

use std::sync::Arc;

use super::{Chain, Step};

/// See the module.
#[derive(Debug, PartialEq)]
pub struct Layer {
    chain: Option<Chain>,
    /// Whose of the route's are replaced, by one that is off too.
    names: Box<[Box<str>]>,
}

impl Layer {
    /// Of the plugins of these names, those that are on.
    pub fn new(steps: Vec<Arc<Step>>, names: Vec<Box<str>>) -> Option<Layer> {
        // Whoever has a consumer has been told apart already.
        let steps = steps.into_iter().filter(|step| !step.tells_consumers_apart()).collect();
        (!names.is_empty()).then(|| Layer { chain: Chain::new(steps), names: names.into() })
    }

    /// Those that are on, in the order in which they act.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.chain.iter().flat_map(Chain::steps)
    }

    /// Whether any of them looks at answers.
    pub(super) fn answers(&self) -> bool {
        self.chain.as_ref().is_some_and(|chain| chain.answers)
    }

    /// Whether any of them wants to see the request's content.
    pub(crate) fn looks_at_body(&self) -> bool {
        self.chain.as_ref().is_some_and(|chain| chain.looks_at_body)
    }

    /// Those that the route has not looked with yet.
    pub(super) fn new_to<'l>(&'l self, route: Option<&'l Chain>) -> impl Iterator<Item = &'l Step> {
        let is_new = move |step: &&Step| {
            !route.into_iter().flat_map(Chain::steps).any(|known| known.name() == step.name())
        };
        self.steps().filter(is_new)
    }

    fn replaces(&self, step: &Step) -> bool {
        self.names.iter().any(|name| **name == *step.name())
    }
}

/// The plugins of a route and of a consumer in the order in which they act.
#[derive(Debug, Clone)]
pub(super) struct Merged<'a> {
    route: &'a [Arc<Step>],
    layer: &'a [Arc<Step>],
    over: Option<&'a Layer>,
}

impl<'a> Merged<'a> {
    pub(super) fn new(route: Option<&'a Chain>, over: Option<&'a Layer>) -> Merged<'a> {
        let steps = |chain: Option<&'a Chain>| chain.map_or(&[][..], |chain| &chain.steps);
        Merged { route: steps(route), layer: steps(over.and_then(|layer| layer.chain.as_ref())), over }
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = &'a Step;

    fn next(&mut self) -> Option<&'a Step> {
        if let Some(layer) = self.over {
            while let [first, rest @ ..] = self.route
                && layer.replaces(first)
            {
                self.route = rest;
            }
        }
        let of_layer = match (self.route.first(), self.layer.first()) {
            (Some(route), Some(layer)) => layer.comes_before(route),
            (None, _) => true,
            (_, None) => false,
        };
        let from = if of_layer { &mut self.layer } else { &mut self.route };
        let (first, rest) = from.split_first()?;
        *from = rest;
        Some(first)
    }
}
