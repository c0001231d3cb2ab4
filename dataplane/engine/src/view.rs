//! One configuration compiled for the request path: what every core shares, immutable, until the next one.
//!
//! A [`View`] is compiled whole once; from then on each is made of the one before and of what changed. An upstream that changes is
//! replaced at its place, so that the routes that use it stay as they are; a route is compiled again when it, its service's hosts or
//! the place of its upstream changes, and then only its part of its host's table.
//!
//! Invariants: everything a request needs hangs off one [`View`], so that a request that holds one never sees
//! two versions; building one happens on no core that serves; a view made of changes decides as one compiled whole.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_snapshot::model::{Id, Kind, Object, Plugins, Route, Service, Upstream, credential};
use ringway_snapshot::plugin::login::login_about;
use ringway_snapshot::plugin::{Destination, Plugin, with_upstreams};
use ringway_snapshot::sorted::{Change, Keyed, Sorted};
use ringway_snapshot::validate::logins;
use ringway_snapshot::{Entries, Entry, Fault, LogRate, Snapshot, Validator, Version};
use smallvec::SmallVec;

use crate::consumer::{Caller, Callers};
use crate::plugin::{Chain, Chains, Layer, Step};
use crate::route::{self, Removal, Rule, Table};
use crate::site::Site;
use crate::upstream::{Cluster, Places, Timeouts};

/// A compiled configuration.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Which one it is.
    pub version: Version,
    /// Finds the target of a request.
    pub routes: Table<Target>,
    /// How many objects of each kind it was built from.
    pub counts: Counts,
    clusters: Places<Cluster>,
    callers: Callers,
    by_key: Sorted<Placed>,
    global: Arc<[Arc<Chain>]>,
    site: Site,
    /// What of consumers and credentials nobody gets in by, by their ids, and why.
    unusable: Arc<BTreeMap<Id, String>>,
    /// Clusters that the view before did not have, with nodes that are told by name.
    named_anew: Vec<Arc<Cluster>>,
}

/// How many objects a view was built from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Routes, disabled ones too.
    pub routes: usize,
    /// Services.
    pub services: usize,
    /// Upstreams that are objects of their own.
    pub upstreams: usize,
    /// Plugin configurations.
    pub plugin_configs: usize,
    /// Global rules.
    pub global_rules: usize,
    /// Consumers.
    pub consumers: usize,
    /// Their credentials.
    pub credentials: usize,
    /// Consumer groups.
    pub consumer_groups: usize,
}

/// Where a matched request goes. What every request reads stands here, and no more: the table keeps it beside the pattern, and with it in one line
/// of memory.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its plugins, with those of its plugin configuration and service.
    pub chain: Option<Arc<Chain>>,
    /// Waits towards the node, where the route has its own; few have.
    timeouts: Option<Arc<Timeouts>>,
    /// What else is known of it.
    pub about: Arc<About>,
    /// Place of its upstream among the view's; [`NOWHERE`]: neither the route nor its service names one.
    place: u32,
    /// Whether `Upgrade: websocket` may switch the connection.
    pub may_upgrade: bool,
}

const NOWHERE: u32 = u32::MAX;

/// What of a target only some requests ask for.
#[derive(Debug)]
pub struct About {
    /// The route that matched.
    pub route_id: Id,
    /// Its service.
    pub service_id: Option<Id>,
    /// Which of its requests the access log has, where it says so itself.
    pub log_rate: Option<LogRate>,
    /// The configuration it came from.
    pub route: Arc<Route>,
}

impl Target {
    /// Waits towards the nodes of its cluster, where the route or the cluster has its own.
    pub fn timeouts(&self, cluster: &Cluster) -> Option<Timeouts> {
        self.timeouts.as_deref().copied().or(cluster.timeouts)
    }
}

/// A cluster's place, by the cluster's key.
#[derive(Debug)]
struct Placed {
    key: Box<str>,
    place: u32,
}

impl Keyed for Placed {
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        &self.key
    }

    fn compare(&self, key: &&str) -> Ordering {
        (*self.key).cmp(key)
    }
}

impl View {
    /// Compiles a snapshot that was validated. Faults name what only compiling finds.
    pub fn compile(snapshot: &Snapshot) -> Result<View, Vec<Fault>> {
        View::compile_at(&Site::default(), snapshot)
    }

    /// The same for a gateway there, as are the views that are made of this one.
    pub fn compile_at(site: &Site, snapshot: &Snapshot) -> Result<View, Vec<Fault>> {
        let none = View { site: site.clone(), ..View::default() };
        let mut compiler = Compiler::new(&none, &snapshot.entries);
        let is_route = |entry: &&Arc<Entry>| matches!(entry.object, Object::Route(_));
        // What routes refer to first. Places are looked up by key only once all are there.
        let mut shared = Vec::new();
        for entry in snapshot.entries.iter().filter(|entry| !is_route(entry)) {
            compiler.view.counts.add(entry, 1);
            shared.extend(compiler.add_clusters(entry));
        }
        compiler.view.by_key = shared.iter().cloned().collect();
        // Routes stand in the order of their ids, in which tables are built fastest.
        let mut placed = Vec::new();
        let routes = Table::compile(snapshot.entries.iter().filter(is_route).filter_map(|entry| {
            compiler.view.counts.add(entry, 1);
            let own = compiler.add_clusters(entry);
            let has_own = matches!(&entry.object, Object::Route(route) if route.own_upstream().is_some());
            let place = own.first().filter(|_| has_own).map(|own| own.place);
            compiler
                .inline
                .extend(own.iter().skip(usize::from(has_own)).map(|own| (own.key.clone(), own.place)));
            let rule = compiler.rule(entry, place);
            compiler.inline.clear();
            placed.extend(own);
            rule
        }));
        compiler.view.by_key = placed.into_iter().chain(shared).collect();
        compiler.view.global = compiler.global_chains();
        for kind in [Kind::Consumer, Kind::Credential] {
            snapshot.entries.of_kind(kind).for_each(|entry| compiler.add_caller(entry));
        }
        compiler.finish(snapshot.version, routes)
    }

    /// The view of `newer`, where `self` is that of `older` and `users` knows who refers to whom in `newer`.
    pub fn update(&self, older: &Snapshot, newer: &Snapshot, users: &Validator) -> Result<View, Vec<Fault>> {
        let mut compiler = Compiler::new(self, &newer.entries);
        let changes = older.entries.changes(&newer.entries);
        // The routes to compile again, and what of services and upstreams made it so.
        let mut routes: BTreeMap<&str, Change<'_, Entry>> = BTreeMap::new();
        let mut global_rules_change = false;
        let mut callers = BTreeSet::new();
        for change in &changes {
            for (entry, by) in [(change.old, -1), (change.new, 1)] {
                entry.into_iter().for_each(|entry| compiler.view.counts.add(entry, by));
            }
            let moved = compiler.replace_clusters(change.old, change.new);
            let is_rule = |entry: &Arc<Entry>| matches!(entry.object, Object::GlobalRule(_));
            global_rules_change |= moved || change.old.or(change.new).is_some_and(is_rule);
            let Some(entry) = change.new.or(change.old) else { continue };
            match entry.object {
                Object::Route(_) => {
                    routes.insert(&entry.id, Change { old: change.old, new: change.new });
                }
                Object::Service(_) if !moved && same_for_routes(change.old, change.new) => {}
                Object::PluginConfig(_) if !moved && same_for_routes(change.old, change.new) => {}
                Object::Upstream(_) if !moved => {}
                Object::GlobalRule(_) => {}
                Object::Consumer(_) | Object::Credential(_) | Object::ConsumerGroup(_) => {
                    callers_of(users, entry.object.kind(), &entry.id, &mut callers);
                }
                _ => {
                    for (kind, id) in all_users(users, entry) {
                        callers_of(users, *kind, id, &mut callers);
                        let key = (Kind::Route, &**id);
                        if *kind == Kind::Route && !routes.contains_key(&**id) {
                            let (old, new) = (older.entries.get(&key), newer.entries.get(&key));
                            routes.insert(id, Change { old, new });
                        }
                    }
                }
            }
        }
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (id, Change { old, new }) in routes {
            removed.extend(old.and_then(|old| removal(id, old, &older.entries)));
            added.extend(new.and_then(|new| {
                let own = compiler.place(Kind::Route, id);
                compiler.rule(new, own)
            }));
        }
        if global_rules_change {
            compiler.view.global = compiler.global_chains();
        }
        compiler.renew_callers(&callers);
        let table = self.routes.update(&removed, added);
        compiler.finish(newer.version, table)
    }

    /// Where the target's requests go; `None`: nowhere is configured.
    pub fn cluster(&self, target: &Target) -> Option<&Arc<Cluster>> {
        // No view has so many clusters.
        self.cluster_at(target.place)
    }

    /// The cluster at that place, which a plugin chose.
    pub fn cluster_at(&self, place: u32) -> Option<&Arc<Cluster>> {
        self.clusters.get(place)
    }

    /// The plugins that a request passes; `None`: it has no route.
    pub fn chains<'v>(&'v self, target: Option<&'v Target>) -> Chains<'v> {
        let route = target.and_then(|target| target.chain.as_deref());
        Chains { global: &self.global, route, target, callers: Some(&self.callers) }
    }

    /// What of consumers and credentials nobody gets in by, by their ids, and why: references to variables that are not there.
    pub fn unusable(&self) -> &BTreeMap<Id, String> {
        &self.unusable
    }

    /// Who may call.
    pub fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Every cluster, by key.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.by_key.iter().filter_map(|placed| self.clusters.get(placed.place))
    }

    /// Clusters that the view before did not have, with nodes that are told by name.
    pub fn named_anew(&self) -> &[Arc<Cluster>] {
        &self.named_anew
    }

    /// How many clusters there are.
    pub fn cluster_count(&self) -> usize {
        self.by_key.len()
    }

    /// The cluster of that key.
    pub fn cluster_of(&self, key: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(self.by_key.get(&key)?.place)
    }

    /// Whether there is a cluster of that key.
    pub fn has_cluster(&self, key: &str) -> bool {
        self.by_key.get(&key).is_some()
    }
}

impl Counts {
    fn add(&mut self, entry: &Entry, more: isize) {
        let count = match entry.object {
            Object::Route(_) => &mut self.routes,
            Object::Service(_) => &mut self.services,
            Object::Upstream(_) => &mut self.upstreams,
            Object::PluginConfig(_) => &mut self.plugin_configs,
            Object::GlobalRule(_) => &mut self.global_rules,
            Object::Consumer(_) => &mut self.consumers,
            Object::Credential(_) => &mut self.credentials,
            Object::ConsumerGroup(_) => &mut self.consumer_groups,
        };
        *count = count.saturating_add_signed(more);
    }
}

/// A view in the making.
struct Compiler<'a> {
    view: View,
    entries: &'a Entries,
    /// What routes referred to so far: many refer to the same.
    services: HashMap<&'a str, Option<Shared<'a>>>,
    upstreams: HashMap<&'a str, Option<u32>>,
    steps: HashMap<(Kind, &'a str), Steps>,
    /// By plugin configuration and service.
    chains: HashMap<Sharing<'a>, Option<Arc<Chain>>>,
    /// What consumers bring with them, by consumer.
    layers: HashMap<&'a str, Option<Arc<Layer>>>,
    /// Upstreams in the plugins of the route at hand, while a whole view is compiled.
    inline: HashMap<Box<str>, u32>,
    faults: Vec<Fault>,
}

/// The plugin configuration and the service of a route.
type Sharing<'a> = (Option<&'a str>, Option<&'a str>);

/// The compiled plugins of one object.
type Steps = Arc<[Arc<Step>]>;

/// A service, and the place of its upstream.
#[derive(Clone, Copy)]
struct Shared<'a> {
    service: &'a Service,
    place: Option<u32>,
}

type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

impl<'a> Compiler<'a> {
    fn new(from: &View, entries: &'a Entries) -> Compiler<'a> {
        // The table is made at the end; until then its place is empty, which copies nothing.
        let view = View {
            version: from.version,
            routes: Table::default(),
            counts: from.counts,
            clusters: from.clusters.clone(),
            callers: from.callers.clone(),
            by_key: from.by_key.clone(),
            global: Arc::clone(&from.global),
            site: from.site.clone(),
            unusable: Arc::clone(&from.unusable),
            named_anew: Vec::new(),
        };
        Compiler {
            view,
            entries,
            services: HashMap::default(),
            upstreams: HashMap::default(),
            steps: HashMap::default(),
            chains: HashMap::default(),
            layers: HashMap::default(),
            inline: HashMap::default(),
            faults: Vec::new(),
        }
    }

    fn finish(mut self, version: Version, routes: Table<Target>) -> Result<View, Vec<Fault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        (self.view.version, self.view.routes) = (version, routes);
        Ok(self.view)
    }

    /// Puts an object's own upstreams in the places of those it had. Tells whether any came or went.
    fn replace_clusters(&mut self, old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>) -> bool {
        let mut moved = false;
        let after: Vec<_> = new.into_iter().flat_map(|new| self.own_clusters(new)).collect();
        for (key, ..) in old.into_iter().flat_map(|old| own_upstreams(old)) {
            if !after.iter().any(|cluster| *cluster.key == *key)
                && let Some(placed) = self.view.by_key.remove(&&*key)
            {
                self.view.clusters.remove(placed.place);
                moved = true;
            }
        }
        for cluster in after {
            if let Some(placed) = self.view.by_key.get(&&*cluster.key) {
                self.view.clusters.replace(placed.place, cluster);
                continue;
            }
            let key = cluster.key.clone();
            let place = self.view.clusters.add(cluster);
            self.view.by_key.put(Arc::new(Placed { key, place }));
            moved = true;
        }
        moved
    }

    /// Gives an object's own upstreams places in a view that has none of their keys.
    fn add_clusters(&mut self, entry: &Entry) -> SmallVec<[Arc<Placed>; 1]> {
        let mut placed = SmallVec::new();
        for cluster in self.own_clusters(entry) {
            let key = cluster.key.clone();
            placed.push(Arc::new(Placed { key, place: self.view.clusters.add(cluster) }));
        }
        placed
    }

    fn own_clusters(&mut self, entry: &Entry) -> SmallVec<[Arc<Cluster>; 1]> {
        let mut clusters = SmallVec::new();
        for (key, at, upstream) in own_upstreams(entry) {
            match Cluster::compile_in(self.view.site.zone.as_deref(), key, &upstream) {
                Ok(cluster) => {
                    let cluster = Arc::new(cluster);
                    if !cluster.names.is_empty() {
                        self.view.named_anew.push(Arc::clone(&cluster));
                    }
                    clusters.push(cluster);
                }
                Err((index, reason)) => self.fault(entry, format!("{at}/nodes/{index}/host"), reason),
            }
        }
        clusters
    }

    /// The rule of a route that is in use; `own` is the place of the upstream that stands in it.
    fn rule(&mut self, entry: &'a Entry, own: Option<u32>) -> Option<Rule<Target>> {
        let Object::Route(route) = &entry.object else { return None };
        let shared = route.service_id.as_deref().and_then(|id| self.service(id));
        // APISIX: what a route says itself wins over its service.
        let place = match (&route.upstream_id, &route.upstream) {
            (Some(id), _) => self.upstream(id),
            (None, Some(_)) => own,
            (None, None) => shared.and_then(|shared| shared.place),
        };
        let service = shared.map(|shared| shared.service);
        let may_upgrade = route.enable_websocket.or(service.and_then(|service| service.enable_websocket));
        let about = About {
            log_rate: LogRate::of(&route.labels),
            route_id: entry.id.clone(),
            route: Arc::clone(route),
            service_id: route.service_id.clone(),
        };
        let target = Target {
            may_upgrade: may_upgrade.unwrap_or(false),
            chain: self.chain(entry, route),
            timeouts: route.timeout.map(|timeout| Arc::new(Timeouts::from(timeout))),
            about: Arc::new(about),
            place: place.unwrap_or(NOWHERE),
        };
        match route::rules_of(&entry.id, route, service, target) {
            Ok(rule) => rule,
            Err(error) => {
                self.fault(entry, String::new(), error.to_string());
                None
            }
        }
    }

    fn service(&mut self, id: &'a str) -> Option<Shared<'a>> {
        if let Some(known) = self.services.get(id) {
            return *known;
        }
        let shared = service(id, self.entries).map(|service| {
            let place = match &service.upstream_id {
                Some(id) => self.upstream(id),
                None => self.place(Kind::Service, id),
            };
            Shared { service, place }
        });
        self.services.insert(id, shared);
        shared
    }

    fn upstream(&mut self, id: &'a str) -> Option<u32> {
        if let Some(known) = self.upstreams.get(id) {
            return *known;
        }
        let place = self.place(Kind::Upstream, id);
        self.upstreams.insert(id, place);
        place
    }

    fn place(&self, kind: Kind, id: &str) -> Option<u32> {
        let mut key = String::with_capacity(kind.name().len() + id.len() + 1);
        key.extend([kind.name(), "/", id]);
        self.view.by_key.get(&&*key).map(|placed| placed.place)
    }

    /// A route's plugins: its own, and those of its plugin configuration and service that it does not have itself.
    fn chain(&mut self, entry: &'a Entry, route: &'a Route) -> Option<Arc<Chain>> {
        let (config, service) = (route.plugin_config_id.as_deref(), route.service_id.as_deref());
        let is_shared = route.plugins.iter().next().is_none();
        if is_shared && config.is_none() && service.is_none() {
            return None;
        }
        if let Some(chain) = self.chains.get(&(config, service)).filter(|_| is_shared) {
            return chain.clone();
        }
        let mut steps: Vec<Arc<Step>> = self.compiled(entry, &route.plugins).to_vec();
        let config = config.and_then(|id| self.entries.get(&(Kind::PluginConfig, id)));
        let service = service.and_then(|id| self.entries.get(&(Kind::Service, id)));
        let mut nearer: SmallVec<[&Plugins; 2]> = SmallVec::from_slice(&[&route.plugins]);
        for shared in [config, service].into_iter().flatten() {
            let Some(plugins) = shared.object.plugins() else { continue };
            let is_new = |step: &&Arc<Step>| nearer.iter().all(|nearer| nearer.get(step.name()).is_none());
            steps.extend(self.shared_steps(shared).iter().filter(is_new).cloned());
            nearer.push(plugins);
        }
        let chain = Chain::new(steps).map(Arc::new);
        if is_shared {
            self.chains
                .insert((route.plugin_config_id.as_deref(), route.service_id.as_deref()), chain.clone());
        }
        chain
    }

    /// Compiles anew who is there of these callers, and takes out the others.
    fn renew_callers(&mut self, keys: &BTreeSet<(Kind, Id)>) {
        let entries = self.entries;
        for (kind, id) in keys {
            match entries.get(&(*kind, id)) {
                Some(entry) => self.add_caller(entry),
                None => {
                    self.view.callers.remove(id);
                    self.note_unusable(id, None);
                }
            }
        }
    }

    /// A consumer, or one by a credential of its own.
    fn add_caller(&mut self, entry: &'a Entry) {
        let name = credential(&entry.id).map_or(&*entry.id, |(consumer, _)| consumer);
        let Some(consumer) = self.entries.get(&(Kind::Consumer, name)) else { return };
        let Object::Consumer(fields) = &consumer.object else { return };
        let (mut by_reference, mut unusable) = (false, None);
        let environment = &self.view.site.environment;
        let mut own = SmallVec::new();
        for login in logins(entry) {
            match login.resolved(|name| environment.get(name)) {
                Ok(None) => own.push(login),
                Ok(Some(resolved)) => {
                    by_reference = true;
                    own.push(resolved);
                }
                Err((field, reason)) => {
                    unusable = Some(format!("/plugins/{}/{field}: {reason}", login.about().name));
                }
            }
        }
        let caller = Caller {
            id: entry.id.clone(),
            group: fields.group_id.clone(),
            custom_id: fields.labels.get("custom_id").cloned(),
            layer: self.layer(consumer, fields.group_id.as_deref()),
            logins: own,
            by_reference,
        };
        let (id, place) = (caller.id.clone(), self.view.callers.put(caller));
        if unusable.is_none()
            && self.view.callers.get(place).is_some_and(|own| self.view.callers.is_ambiguous(own))
        {
            unusable = Some("shows the same as another one, by a variable of the environment".to_owned());
        }
        self.note_unusable(&id, unusable);
    }

    fn note_unusable(&mut self, id: &Id, why: Option<String>) {
        match why {
            Some(why) => drop(Arc::make_mut(&mut self.view.unusable).insert(id.clone(), why)),
            None if self.view.unusable.contains_key(id) => {
                Arc::make_mut(&mut self.view.unusable).remove(id);
            }
            None => {}
        }
    }

    /// A consumer's plugins, and those of its group that it does not have itself.
    fn layer(&mut self, consumer: &'a Entry, group: Option<&'a str>) -> Option<Arc<Layer>> {
        if let Some(known) = self.layers.get(&*consumer.id) {
            return known.clone();
        }
        let own = consumer.object.plugins().filter(|own| own.keys().any(|name| login_about(name).is_none()));
        let group = group.and_then(|id| self.entries.get(&(Kind::ConsumerGroup, id)));
        let mut names: Vec<Box<str>> = Vec::new();
        let mut steps: Vec<Arc<Step>> = Vec::new();
        if let Some(own) = own {
            steps.extend_from_slice(&self.compiled(consumer, own));
            names.extend(own.keys().filter(|name| login_about(name).is_none()).map(Box::from));
        }
        if let Some(plugins) = group.and_then(|group| group.object.plugins()) {
            let is_new = |name: &str| !names.iter().any(|own| **own == *name);
            let shared = group.map(|group| self.shared_steps(group)).unwrap_or_default();
            steps.extend(shared.iter().filter(|step| is_new(step.name())).cloned());
            let more: Vec<Box<str>> = plugins.keys().filter(|name| is_new(name)).map(Box::from).collect();
            names.extend(more);
        }
        let layer = Layer::new(steps, names).map(Arc::new);
        self.layers.insert(&consumer.id, layer.clone());
        layer
    }

    /// One chain for each global rule, in the order of their ids.
    fn global_chains(&mut self) -> Arc<[Arc<Chain>]> {
        let entries = self.entries;
        let rules = entries.of_kind(Kind::GlobalRule).filter_map(|rule| {
            let steps = rule.object.plugins().map(|plugins| self.compiled(rule, plugins))?;
            Chain::new(steps.to_vec()).map(Arc::new)
        });
        rules.collect()
    }

    /// The plugins of an object that many refer to.
    fn shared_steps(&mut self, entry: &'a Entry) -> Steps {
        if let Some(known) = self.steps.get(&entry.key()) {
            return Arc::clone(known);
        }
        let steps = entry.object.plugins().map(|plugins| self.compiled(entry, plugins)).unwrap_or_default();
        self.steps.insert(entry.key(), Arc::clone(&steps));
        steps
    }

    fn compiled(&mut self, entry: &'a Entry, plugins: &'a Plugins) -> Steps {
        let owner = cluster_key(entry);
        let mut steps = Vec::new();
        // What a consumer tells of itself is no plugin of its requests.
        let is_login = |name: &str| entry.object.kind() == Kind::Consumer && login_about(name).is_some();
        for (name, conf) in plugins.iter().filter(|(name, _)| !is_login(name)) {
            match Plugin::read(name, &conf.value()) {
                Ok(None) => {}
                Ok(Some(plugin)) => {
                    let places = self.places(&owner, &plugin);
                    steps.push(Arc::new(Step::new(&owner, plugin, places)));
                }
                Err((place, reason)) => self.fault(entry, format!("/plugins/{name}{place}"), reason),
            }
        }
        steps.into()
    }

    fn places(&self, owner: &str, plugin: &Plugin) -> Box<[Option<u32>]> {
        let destinations = plugin.destinations().into_iter().enumerate();
        let place = |(index, (_, destination)): (usize, (String, &Destination))| match destination {
            Destination::Id(id) => self.place(Kind::Upstream, id),
            Destination::Own(_) => {
                let key = inline_key(owner, plugin.name, index);
                let placed = || self.view.by_key.get(&&*key).map(|placed| placed.place);
                self.inline.get(&*key).copied().or_else(placed)
            }
        };
        destinations.map(place).collect()
    }

    fn fault(&mut self, entry: &Entry, pointer: String, reason: String) {
        let (kind, id) = entry.key();
        self.faults.push(Fault { kind: kind.name().to_owned(), id: id.to_owned(), pointer, reason });
    }
}

/// The upstreams that an object is or holds, its own first, then those of its plugins: their keys and places in it.
fn own_upstreams(entry: &Entry) -> SmallVec<[(String, String, Cow<'_, Upstream>); 1]> {
    let mut all = SmallVec::new();
    let own = match &entry.object {
        Object::Upstream(upstream) => Some((String::new(), &**upstream)),
        Object::Service(service) => service.own_upstream().map(|own| ("/upstream".to_owned(), own)),
        Object::Route(route) => route.own_upstream().map(|own| ("/upstream".to_owned(), own)),
        _ => None,
    };
    all.extend(own.map(|(at, upstream)| (cluster_key(entry), at, Cow::Borrowed(upstream))));
    for plugin in entry.object.plugins().into_iter().flat_map(with_upstreams) {
        for (index, (place, destination)) in plugin.destinations().into_iter().enumerate() {
            if let Destination::Own(upstream) = destination {
                let key = inline_key(&cluster_key(entry), plugin.name, index);
                let at = format!("/plugins/{}{place}/upstream", plugin.name);
                all.push((key, at, Cow::Owned((**upstream).clone())));
            }
        }
    }
    all
}

/// The key of an upstream that stands in a plugin: the how-many-th it names.
fn inline_key(owner: &str, plugin: &str, index: usize) -> String {
    format!("{owner}/{plugin}.{index}")
}

fn cluster_key(entry: &Entry) -> String {
    let (kind, id) = entry.key();
    [kind.name(), "/", id].concat()
}

fn service<'a>(id: &str, entries: &'a Entries) -> Option<&'a Service> {
    let entry = entries.get(&(Kind::Service, id))?;
    match &entry.object {
        Object::Service(service) => Some(service),
        _ => None,
    }
}

/// What a route's rule was, to take it out of the table.
fn removal(id: &str, entry: &Entry, entries: &Entries) -> Option<Removal> {
    let Object::Route(route) = &entry.object else { return None };
    Removal::of(id, route, route.service_id.as_deref().and_then(|id| service(id, entries)))
}

/// Whether routes that refer to it need not be compiled again: hosts, plugins, what may be upgraded and whose upstream it is are as
/// before.
fn same_for_routes(old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>) -> bool {
    match (old.map(|old| &old.object), new.map(|new| &new.object)) {
        (Some(Object::Service(old)), Some(Object::Service(new))) => {
            old.hosts == new.hosts
                && old.enable_websocket == new.enable_websocket
                && old.upstream_id == new.upstream_id
                && old.plugins == new.plugins
        }
        (Some(Object::PluginConfig(old)), Some(Object::PluginConfig(new))) => old.plugins == new.plugins,
        _ => false,
    }
}

/// Who refers to an object, also through a service.
fn all_users<'u>(users: &'u Validator, entry: &Entry) -> Vec<&'u (Kind, Id)> {
    let (kind, id) = entry.key();
    let mut all = Vec::new();
    for user in users.users_of(kind, id) {
        all.push(user);
        if matches!(user.0, Kind::Service | Kind::PluginConfig) {
            all.extend(users.users_of(user.0, &user.1));
        }
    }
    all
}

/// The callers to compile again when this object changes.
fn callers_of(users: &Validator, kind: Kind, id: &str, all: &mut BTreeSet<(Kind, Id)>) {
    match kind {
        Kind::Consumer | Kind::Credential => {
            all.insert((kind, id.into()));
        }
        Kind::ConsumerGroup => {}
        _ => return,
    }
    // Nothing refers to credentials.
    for (kind, id) in users.users_of(kind, id) {
        callers_of(users, *kind, id, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_and_its_pattern_are_one_line_of_memory() {
        assert!(size_of::<Target>() <= 32, "{} bytes", size_of::<Target>());
        assert!(route::PATTERN_BYTES + size_of::<Target>() <= 64, "{} bytes", route::PATTERN_BYTES);
    }
}
