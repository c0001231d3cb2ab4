//! One configuration compiled for the request path: what every core shares, immutable, until the next one.
//!
//! Invariants: everything a request needs hangs off one [`View`], so that a request that holds one never sees
//! two versions; building one happens on no core that serves.

use std::collections::HashMap;
use std::sync::Arc;

use ringway_snapshot::model::{Id, Kind, Object, Route, Service, Upstream};
use ringway_snapshot::{Fault, Snapshot, Version};

use crate::route::{self, Table};
use crate::upstream::{Cluster, Timeouts};

/// A compiled configuration.
#[derive(Debug)]
pub struct View {
    /// Which one it is.
    pub version: Version,
    /// Finds the target of a request.
    pub routes: Table<Arc<Target>>,
    /// Upstreams by key, for the operator's eyes.
    pub clusters: HashMap<Box<str>, Arc<Cluster>>,
    /// How many objects of each kind it was built from.
    pub counts: Counts,
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
}

/// Where a matched request goes.
#[derive(Debug)]
pub struct Target {
    /// The route that matched.
    pub route_id: Id,
    /// The configuration it came from.
    pub route: Arc<Route>,
    /// Its service.
    pub service_id: Option<Id>,
    /// `None`: neither the route nor its service names an upstream.
    pub cluster: Option<Arc<Cluster>>,
    /// Whether `Upgrade: websocket` may switch the connection.
    pub may_upgrade: bool,
    /// Waits towards the node, where configured.
    pub timeouts: Option<Timeouts>,
}

impl View {
    /// Compiles a snapshot that was validated. Faults name what only compiling finds.
    pub fn compile(snapshot: &Snapshot) -> Result<View, Vec<Fault>> {
        let mut compiler = Compiler::default();
        for entry in &snapshot.entries {
            match &entry.object {
                Object::Upstream(upstream) => {
                    compiler.counts.upstreams += 1;
                    if let Some(cluster) = compiler.cluster(Kind::Upstream, &entry.id, "", upstream) {
                        compiler.upstreams.insert(&entry.id, cluster);
                    }
                }
                Object::Service(service) => {
                    compiler.counts.services += 1;
                    compiler.services.insert(&entry.id, service);
                }
                Object::Route(_) => compiler.counts.routes += 1,
            }
        }
        for (id, service) in compiler.services.clone() {
            let cluster = match (&service.upstream, &service.upstream_id) {
                (Some(own), _) => compiler.cluster(Kind::Service, id, "/upstream", own),
                (None, Some(reference)) => compiler.upstreams.get(&**reference).cloned(),
                (None, None) => None,
            };
            compiler.service_clusters.insert(id, cluster);
        }
        let mut rules = Vec::with_capacity(compiler.counts.routes);
        for entry in &snapshot.entries {
            if let Object::Route(route) = &entry.object {
                let service = route.service_id.as_deref().and_then(|id| compiler.services.get(id)).copied();
                let target = Arc::new(compiler.target(&entry.id, route));
                match route::rules_of(&entry.id, route, service.map(|service| &**service), target) {
                    Ok(rule) => rules.extend(rule),
                    Err(error) => compiler.fault(Kind::Route, &entry.id, String::new(), error.to_string()),
                }
            }
        }
        if !compiler.faults.is_empty() {
            return Err(compiler.faults);
        }
        Ok(View {
            version: snapshot.version,
            routes: Table::compile(rules),
            clusters: compiler.clusters,
            counts: compiler.counts,
        })
    }
}

#[derive(Default)]
struct Compiler<'a> {
    upstreams: HashMap<&'a str, Arc<Cluster>>,
    services: HashMap<&'a str, &'a Arc<Service>>,
    service_clusters: HashMap<&'a str, Option<Arc<Cluster>>>,
    clusters: HashMap<Box<str>, Arc<Cluster>>,
    counts: Counts,
    faults: Vec<Fault>,
}

impl Compiler<'_> {
    fn target(&mut self, id: &str, route: &Arc<Route>) -> Target {
        let of_service = || self.service_clusters.get(route.service_id.as_deref()?).cloned().flatten();
        // APISIX: what a route says itself wins over its service.
        let cluster = match (&route.upstream, &route.upstream_id) {
            (Some(own), _) => self.cluster(Kind::Route, id, "/upstream", own),
            (None, Some(reference)) => self.upstreams.get(&**reference).cloned(),
            (None, None) => of_service(),
        };
        let service = route.service_id.as_deref().and_then(|id| self.services.get(id));
        let may_upgrade = route.enable_websocket.or(service.and_then(|service| service.enable_websocket));
        Target {
            may_upgrade: may_upgrade.unwrap_or(false),
            route_id: id.into(),
            route: Arc::clone(route),
            service_id: route.service_id.clone(),
            timeouts: route
                .timeout
                .map(Timeouts::from)
                .or(cluster.as_ref().and_then(|cluster| cluster.timeouts)),
            cluster,
        }
    }

    fn cluster(&mut self, kind: Kind, id: &str, at: &str, upstream: &Upstream) -> Option<Arc<Cluster>> {
        match Cluster::compile(format!("{}/{id}", kind.name()), upstream) {
            Ok(cluster) => {
                let cluster = Arc::new(cluster);
                self.clusters.insert(cluster.key.clone(), Arc::clone(&cluster));
                Some(cluster)
            }
            Err((index, reason)) => {
                self.fault(kind, id, format!("{at}/nodes/{index}/host"), reason);
                None
            }
        }
    }

    fn fault(&mut self, kind: Kind, id: &str, pointer: String, reason: String) {
        self.faults.push(Fault { kind: kind.name().to_owned(), id: id.to_owned(), pointer, reason });
    }
}
