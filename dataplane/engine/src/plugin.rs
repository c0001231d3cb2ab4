//! What plugins do: a chain of compiled ones for each route, phase by phase.
//!
//! Everything is decided here and nothing done: a plugin gets what is known of the request ([`Facts`]), a number or a turn from [`Chance`], and
//! notes in the request's [`Course`] what is to be otherwise. The driver acts on that. What plugins are told is read and checked in the
//! contract's room of the same name.
//!
//! Order, as in APISIX: each global rule (rewrite, then access), then the route's chain (all rewrite, then all access), within a
//! phase by priority; for the answer again the global rules first. Where a plugin has found the request's consumer, the plugins of
//! the consumer and its group come into the route's chain between rewrite and access (`layer.rs`). Invariant: a request without plugins comes here never.

mod basic_auth;
mod chance;
mod consumer_restriction;
mod cors;
mod course;
mod edits;
mod entrance;
mod fault_injection;
mod ip_restriction;
mod key_auth;
mod layer;
mod mocking;
mod proxy_mirror;
mod proxy_rewrite;
mod real_ip;
mod redirect;
mod referer_restriction;
mod request_id;
mod response_rewrite;
mod traffic_split;
mod ua_restriction;
mod uri_blocker;

pub use chance::Chance;
pub use course::{Changes, Client, Copy, Course, Reply};
pub use edits::{Edits, Lists};
pub use layer::Layer;

use std::sync::Arc;

use foldhash::fast::FixedState;
use ringway_snapshot::plugin::{Conf, Headers, Plugin};
use ringway_snapshot::template::{Piece, Template};

use self::layer::Merged;
use crate::consumer::Callers;
use crate::facts::Facts;
use crate::route::holds;
use crate::view::Target;

/// When a plugin looks at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// What the request is.
    Rewrite,
    /// Whether and where it goes.
    Access,
}

/// What a plugin says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// It is answered here, with the course's [`Reply`].
    Answer,
}

/// One compiled plugin.
#[derive(Debug, PartialEq)]
pub struct Step {
    plugin: Plugin,
    /// Where its upstreams are among the view's, in the order in which it names them.
    places: Box<[Option<u32>]>,
    /// Tells its turns from those of others.
    key: u64,
}

impl Step {
    /// A plugin of the object of that key (`routes/1`).
    pub fn new(owner: &str, plugin: Plugin, places: Box<[Option<u32>]>) -> Step {
        use std::hash::BuildHasher;
        let key = FixedState::with_seed(0).hash_one((owner, plugin.name));
        Step { plugin, places, key }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.plugin.name
    }

    /// Where its upstreams are among the view's, in the order in which it names them.
    pub fn places(&self) -> &[Option<u32>] {
        &self.places
    }
}

/// Plugins in the order in which they act.
#[derive(Debug, PartialEq)]
pub struct Chain {
    steps: Box<[Arc<Step>]>,
    answers: bool,
    /// Some of them want to see the request's content.
    looks_at_body: bool,
    /// Some of them find out who calls, which may bring further plugins.
    tells_consumers_apart: bool,
}

/// What a plugin works with.
#[derive(Debug)]
pub struct Asked<'a> {
    /// What is known of the request.
    pub facts: &'a Facts<'a>,
    /// What is to be otherwise.
    pub course: &'a mut Course,
    /// Turns and random numbers.
    pub chance: &'a mut Chance,
    /// Who may call.
    pub callers: Option<&'a Callers>,
}

impl Chain {
    /// A chain of these; `None` of none.
    pub fn new(mut steps: Vec<Arc<Step>>) -> Option<Chain> {
        steps.sort_by(|a, b| b.plugin.priority.cmp(&a.plugin.priority).then_with(|| a.name().cmp(b.name())));
        let answers = steps.iter().any(|step| step.has_answer_phase());
        let looks_at_body = steps.iter().any(|step| step.plugin.looks_at_body);
        let tells_consumers_apart = steps.iter().any(|step| step.tells_consumers_apart());
        let steps = steps.into_boxed_slice();
        (!steps.is_empty()).then_some(Chain { steps, answers, looks_at_body, tells_consumers_apart })
    }

    /// Its plugins in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().map(|step| &**step)
    }

    /// Lets each plugin look at a request that has come, in both phases. What one changes of its fields or its client, the later
    /// ones see so.
    pub fn request(&self, asked: &mut Asked<'_>) -> Verdict {
        match walk(self.steps(), Phase::Rewrite, asked) {
            Verdict::Continue => walk(self.steps(), Phase::Access, asked),
            Verdict::Answer => Verdict::Answer,
        }
    }
}

/// Lets those of a phase look at a request, each as those before left it.
fn walk<'s>(steps: impl Iterator<Item = &'s Step>, phase: Phase, asked: &mut Asked<'_>) -> Verdict {
    for step in steps.filter(|step| step.phase() == Some(phase)) {
        let course = &*asked.course;
        let verdict = if course.request.is_empty() && course.client.is_none() && course.caller.is_none() {
            step.look(asked)
        } else {
            let (edits, client) = (course.request.clone(), course.client.clone());
            let caller = course.caller(asked.callers);
            let facts = course::seen(*asked.facts, &edits, client.as_ref(), caller);
            let (course, chance, callers) = (&mut *asked.course, &mut *asked.chance, asked.callers);
            step.look(&mut Asked { facts: &facts, course, chance, callers })
        };
        if verdict == Verdict::Answer {
            return Verdict::Answer;
        }
    }
    Verdict::Continue
}

impl Step {
    fn applies(&self, facts: &Facts<'_>) -> bool {
        self.plugin.meta.filter.as_ref().is_none_or(|filter| holds(filter, facts))
    }

    fn look(&self, asked: &mut Asked<'_>) -> Verdict {
        if !self.applies(asked.facts) {
            return Verdict::Continue;
        }
        let verdict = self.request(asked);
        if verdict == Verdict::Answer {
            self.word_refusal(asked.course);
        }
        verdict
    }

    fn request(&self, asked: &mut Asked<'_>) -> Verdict {
        match &self.plugin.conf {
            Conf::BasicAuth(conf) => basic_auth::rewrite(conf, asked),
            Conf::ConsumerRestriction(conf) => consumer_restriction::access(conf, asked),
            Conf::Cors(_) => cors::rewrite(asked),
            Conf::FaultInjection(conf) => fault_injection::rewrite(conf, self.key, asked),
            Conf::IpRestriction(conf) => ip_restriction::access(conf, asked),
            Conf::KeyAuth(conf) => key_auth::rewrite(conf, asked),
            Conf::Mocking(conf) => mocking::access(conf, asked),
            Conf::ProxyMirror(conf) => proxy_mirror::rewrite(conf, &self.places, self.key, asked),
            Conf::ProxyRewrite(conf) => proxy_rewrite::rewrite(conf, asked),
            Conf::RealIp(conf) => real_ip::rewrite(conf, asked),
            Conf::Redirect(conf) => redirect::rewrite(conf, asked),
            Conf::RefererRestriction(conf) => referer_restriction::access(conf, asked),
            Conf::RequestId(conf) => request_id::rewrite(conf, asked),
            Conf::TrafficSplit(conf) => traffic_split::access(conf, &self.places, self.key, asked),
            Conf::UaRestriction(conf) => ua_restriction::access(conf, asked),
            Conf::UriBlocker(conf) => uri_blocker::rewrite(conf, asked),
            Conf::ResponseRewrite(_) => response_rewrite::rewrite(asked),
        }
    }

    /// When it looks at requests; `None`: it does not.
    fn phase(&self) -> Option<Phase> {
        match &self.plugin.conf {
            Conf::BasicAuth(_)
            | Conf::Cors(_)
            | Conf::FaultInjection(_)
            | Conf::KeyAuth(_)
            | Conf::ProxyMirror(_)
            | Conf::ProxyRewrite(_)
            | Conf::RealIp(_)
            | Conf::Redirect(_)
            | Conf::RequestId(_)
            | Conf::UriBlocker(_) => Some(Phase::Rewrite),
            Conf::ConsumerRestriction(_)
            | Conf::IpRestriction(_)
            | Conf::Mocking(_)
            | Conf::RefererRestriction(_)
            | Conf::TrafficSplit(_)
            | Conf::UaRestriction(_) => Some(Phase::Access),
            Conf::ResponseRewrite(conf) => (!conf.filters.is_empty()).then_some(Phase::Rewrite),
        }
    }

    fn tells_consumers_apart(&self) -> bool {
        matches!(&self.plugin.conf, Conf::BasicAuth(_) | Conf::KeyAuth(_))
    }

    fn comes_before(&self, other: &Step) -> bool {
        (other.plugin.priority, self.name()) < (self.plugin.priority, other.name())
    }

    fn has_answer_phase(&self) -> bool {
        matches!(&self.plugin.conf, Conf::Cors(_) | Conf::ResponseRewrite(_))
    }

    fn answer<'a>(&'a self, facts: &Facts<'_>, changes: &mut Changes<'a>) {
        match &self.plugin.conf {
            Conf::Cors(conf) => cors::answer(conf, facts, changes),
            Conf::ResponseRewrite(conf) => response_rewrite::answer(conf, facts, changes),
            _ => {}
        }
    }

    /// `_meta.error_response`: the operator's words in place of the plugin's.
    fn word_refusal(&self, course: &mut Course) {
        let Some(words) = self.plugin.meta.error_response.as_ref().filter(|_| course.reply.status >= 400)
        else {
            return;
        };
        course.reply.body.clear();
        course.reply.body.extend_from_slice(words.body.as_bytes());
        course.reply.content_type = if words.is_json { b"application/json" } else { b"text/plain" };
    }
}

/// The chains that a request passes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chains<'a> {
    /// Those of the global rules.
    pub global: &'a [Arc<Chain>],
    /// That of its route.
    pub route: Option<&'a Chain>,
    /// Its route.
    pub target: Option<&'a Target>,
    /// Who may call.
    pub callers: Option<&'a Callers>,
}

impl<'a> Chains<'a> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.global.is_empty() && self.route.is_none()
    }

    /// The plugins' names, in the order in which they act.
    pub fn names(&self) -> Vec<&'static str> {
        self.all().flat_map(Chain::steps).map(Step::name).collect()
    }

    /// Lets the plugins look at a request that has come.
    pub fn request(&self, asked: &mut Asked<'_>) -> Verdict {
        let facts = Facts { route: self.target, ..*asked.facts };
        let (course, chance) = (&mut *asked.course, &mut *asked.chance);
        let asked = &mut Asked { facts: &facts, course, chance, callers: self.callers };
        for chain in self.global {
            if chain.request(asked) == Verdict::Answer {
                return Verdict::Answer;
            }
        }
        let route = || self.route.into_iter().flat_map(Chain::steps);
        if walk(route(), Phase::Rewrite, asked) == Verdict::Answer {
            return Verdict::Answer;
        }
        let Some(layer) = self.layer(asked.course) else { return walk(route(), Phase::Access, asked) };
        match walk(layer.new_to(self.route), Phase::Rewrite, asked) {
            Verdict::Continue => walk(Merged::new(self.route, Some(layer)), Phase::Access, asked),
            Verdict::Answer => Verdict::Answer,
        }
    }

    /// Whether any plugin looks at answers to this request.
    pub fn have_answer_phase(&self, course: &Course) -> bool {
        self.all().any(|chain| chain.answers) || self.layer(course).is_some_and(Layer::answers)
    }

    /// Whether any plugin, also of those that callers may bring, wants to see the request's content.
    pub fn look_at_body(&self) -> bool {
        self.all().any(|chain| chain.looks_at_body)
            || (self.callers.is_some_and(Callers::look_at_body)
                && self.all().any(|chain| chain.tells_consumers_apart))
    }

    /// The plugins that the request's consumer brings with it to its route.
    fn layer(&self, course: &Course) -> Option<&'a Layer> {
        self.target?;
        course.caller(self.callers)?.layer.as_deref()
    }

    /// How an answer is to be changed, whoever it comes from. `facts` are the request's, and tell the status.
    pub fn answer(&self, facts: &Facts<'_>, course: &Course) -> Changes<'a> {
        let mut changes = Changes { edits: course.answer.clone(), ..Changes::default() };
        let facts = Facts { route: self.target, ..course.facts(*facts, self.callers) };
        let global = self.global.iter().filter(|chain| chain.answers).flat_map(|chain| chain.steps());
        for step in global.chain(Merged::new(self.route, self.layer(course))) {
            if step.has_answer_phase() && step.applies(&facts) {
                step.answer(&facts, &mut changes);
            }
        }
        changes
    }

    fn all(self) -> impl Iterator<Item = &'a Chain> {
        self.global.iter().map(|chain| &**chain).chain(self.route)
    }
}

/// What plugins need to change an answer when its head has come.
#[derive(Debug, Clone, Copy)]
pub struct Answering<'a> {
    /// The chains.
    pub chains: Chains<'a>,
    /// Of the request.
    pub facts: Facts<'a>,
    /// What was decided so far.
    pub course: &'a Course,
}

impl<'a> Answering<'a> {
    /// How an answer of that status is to be changed; `upstream` is the status that its node has or stands for.
    pub fn decide(&self, status: u16, upstream: Option<u16>) -> Changes<'a> {
        let facts = Facts { status: Some(status), upstream_status: upstream, ..self.facts };
        self.chains.answer(&facts, self.course)
    }
}

/// Answers with a refusal.
fn refuse(course: &mut Course, status: u16, body: &str) -> Verdict {
    course.reply.status = status;
    course.reply.content_type = b"application/json";
    course.reply.body.extend_from_slice(body.as_bytes());
    Verdict::Answer
}

/// Changes the fields of an answer.
fn edit_answer(headers: &Headers, facts: &Facts<'_>, edits: &mut Edits) {
    for (name, template) in &headers.add {
        edits.add_with(name.as_bytes(), |out| fill(template, facts, out));
    }
    for (name, template) in &headers.set {
        // nginx takes a field away that is set to nothing.
        if template.pieces().is_empty() {
            edits.remove(name.as_bytes());
        } else {
            edits.set_with(name.as_bytes(), |out| fill(template, facts, out));
        }
    }
    for name in &headers.remove {
        edits.remove(name.as_bytes());
    }
}

/// Appends what a template means for this request.
fn fill(template: &Template, facts: &Facts<'_>, out: &mut Vec<u8>) {
    for piece in template.pieces() {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Variable(variable) => {
                out.extend_from_slice(facts.value(variable).as_deref().unwrap_or_default());
            }
            Piece::Group(_) => {}
        }
    }
}

#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod tests;
