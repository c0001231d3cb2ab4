//! The feed's own decisions, without a process around them: no cores, a real publisher, real offers.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use ringway_snapshot::parse::parse_object;
use serde_json::json;

use super::*;
use crate::disk::Disk;
use crate::state::Feed;

/// A feed and the end of a control plane that hears its answers.
struct Bench {
    feed: FeedLoop,
    far: UnixStream,
    reply: Reply,
    _folder: tempfile::TempDir,
}

impl Drop for Bench {
    /// The thread that writes snapshots has ended before their folder is removed: it would make it again.
    fn drop(&mut self) {
        self.feed.keeper.finish();
    }
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State {
            node: "test".into(),
            site: Site::default(),
            started: Instant::now(),
            cores: Vec::new(),
            life: crate::drain::Life::new(false),
            ward: crate::health::Ward::default(),
            feed: Feed::default().into(),
            stale_after: None,
            latencies: Default::default(),
            descriptors_lacked: Default::default(),
            ledger: Default::default(),
        });
        let keeper = Keeper::start(Disk::new(folder.path().to_owned()), Arc::clone(&state)).unwrap();
        let (publisher, _) = crate::publish::channel(0).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        Bench { feed: FeedLoop::new(state, publisher, keeper), far, reply: Reply::new(near), _folder: folder }
    }

    fn offer(&mut self, content: Content) -> ToControlplane {
        let (now, reply) = (Instant::now(), self.reply.clone());
        self.feed.offer(Offer { content, started: now, received: now, decoded: now, reply });
        connection::read_answer(&mut self.far)
    }

    fn served(&self) -> Option<Version> {
        self.feed.state.feed().view.as_ref().map(|view| view.version)
    }
}

/// What every control plane finds under a number: the numbers of a timeline each have their own content.
fn content(timeline: u32, revision: u64) -> Snapshot {
    let route = |n: u64| {
        let spec = json!({"uri": format!("/{timeline}/{}", if n == revision % 5 { revision } else { 0 })});
        parse_object("routes", &n.to_string(), &spec).unwrap()
    };
    Snapshot::new(7, timeline, revision, (0..5 + revision % 3).map(route).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Two control planes follow timeline 1, one the promoted timeline 2. Each pushes what it has read, in order or late, as
    /// a delta from what it last heard to be served, or whole.
    #[test]
    fn whatever_three_control_planes_push_the_highest_version_wins_and_nothing_goes_back(
        pushes in prop::collection::vec((0usize..3, 1u64..12, any::<bool>()), 1..40),
    ) {
        let mut bench = Bench::new();
        let mut heard: BTreeMap<usize, Snapshot> = BTreeMap::new();
        let mut highest = (0, 0);
        for (who, revision, whole) in pushes {
            let target = content(if who == 2 { 2 } else { 1 }, revision);
            let before = bench.served().map_or((0, 0), |version| version.order());
            let base = heard.get(&who).filter(|_| !whole);
            let offered = base.map_or_else(
                || Content::Full(target.clone()),
                |base| Content::Delta(Delta::between(base, &target)),
            );
            let mut answer = bench.offer(offered);
            if let ToControlplane::Nack(Nack { reason: Reason::Base(_), .. }) = answer {
                prop_assert_eq!(bench.served().map(|version| version.order()), Some(before));
                answer = bench.offer(Content::Full(target.clone()));
            }
            highest = highest.max(target.version.order());
            let served = bench.served().unwrap();
            prop_assert!(served.order() >= before, "back from {before:?} to {served}");
            prop_assert_eq!(served.order(), highest);
            match answer {
                ToControlplane::Ack(ack) => {
                    prop_assert_eq!(ack.version, served);
                    heard.insert(who, target);
                }
                ToControlplane::Nack(Nack { reason: Reason::Version(_), .. }) => {
                    prop_assert!(target.version.order() < before);
                }
                other => prop_assert!(false, "{other:?}"),
            }
            let wanted = content(served.timeline, served.revision);
            prop_assert_eq!(&bench.feed.served.as_ref().unwrap().snapshot, &wanted);
            let table = |view: &View| {
                let mut all: Vec<_> = view.routes.iter().map(|one| (one.id.to_owned(), one.uri.to_owned())).collect();
                all.sort();
                all
            };
            let view = bench.feed.state.feed().view.clone().unwrap();
            prop_assert_eq!(table(&view), table(&View::compile(&wanted).unwrap()));
        }
    }
}

#[test]
fn a_refused_delta_leaves_what_is_served_and_the_next_good_one_is_taken() {
    let mut bench = Bench::new();
    let object = |kind: &str, id: &str, spec| parse_object(kind, id, &spec).unwrap();
    let upstream = || object("upstreams", "u", json!({"nodes": {"127.0.0.1:1": 1}}));
    let route = |uri: &str| object("routes", "r", json!({"uri": uri, "upstream_id": "u"}));
    let first = Snapshot::new(7, 1, 1, vec![upstream(), route("/a")]);
    assert!(matches!(bench.offer(Content::Full(first.clone())), ToControlplane::Ack(_)));
    // The upstream goes, the route that names it stays.
    let bad = Snapshot::new(7, 1, 2, vec![route("/a")]);
    let answer = bench.offer(Content::Delta(Delta::between(&first, &bad)));
    let ToControlplane::Nack(Nack { reason: Reason::Faults(faults), .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(faults[0].to_string(), "routes/r at /upstream_id: there is no upstream \"u\"");
    assert_eq!(bench.served(), Some(first.version));
    let good = Snapshot::new(7, 1, 3, vec![upstream(), route("/b")]);
    assert!(matches!(bench.offer(Content::Delta(Delta::between(&first, &good))), ToControlplane::Ack(_)));
    assert_eq!(bench.served(), Some(good.version));
    // Again the same, as one says it who has not heard the answer.
    assert!(matches!(bench.offer(Content::Delta(Delta::between(&first, &good))), ToControlplane::Ack(_)));
    // And one from elsewhere: the whole is asked for, and nothing is told to the operator.
    let next = Snapshot::new(7, 1, 4, vec![]);
    let answer = bench.offer(Content::Delta(Delta::between(&first, &next)));
    let ToControlplane::Nack(Nack { reason: Reason::Base(served), .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(served, Some(good.version));
    assert!(bench.feed.state.feed().last_refusal.is_none());
}
