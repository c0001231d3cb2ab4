//! One transaction that changes the configuration: all of it or nothing, checked before COMMIT.
//!
//! It first takes the lock of `ringway.head`, which the triggers take too, so that writers stand in one row and none decides by what
//! another is about to change. What is written is then checked in its surroundings: with all that it refers to and, where something
//! goes, with all that refers to that. The cost follows from the change and not from the number of objects.
//!
//! Invariant: a revision that this module commits is valid, unless the one before was not: then it is refused here
//! too, but for a change that touches what is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::StatusCode;
use ringway_snapshot::model::credential;
use ringway_snapshot::parse::parse_owned;
use ringway_snapshot::plugin::Login;
use ringway_snapshot::validate::{logins, validate};
use ringway_snapshot::{Entry, Fault, Kind, Version};
use serde_json::Value;
use tokio_postgres::{IsolationLevel, Transaction};

use super::answer::Answer;
use super::item::{COLUMNS, Fields, Item, Place, fields, may_be_referred_to, references};
use super::key::Actor;
use super::pool::Lease;
use super::schema::singular;
use crate::board::Refusal;
use crate::source::postgresql::NO_HEAD;

const HEAD: &str = "select revision, timeline from ringway.head for update";
const PUT: &str = "insert into ringway.resource (kind, id, spec) \
    select kind, id, spec::jsonb from unnest($1::text[], $2::text[], $3::text[]) as given (kind, id, spec) \
    on conflict (kind, id) do update set spec = excluded.spec, \
        expires_at = case when $4 then resource.expires_at end";
/// The notification, since an end alone is no revision that others would hear of.
const END: &str = "with ended as (update ringway.resource set expires_at = clock_timestamp() + make_interval(secs => $3) \
        where kind = $1 and id = $2 returning 1) \
    select pg_notify('ringway', '') from ended";
const DELETE: &str = "delete from ringway.resource where (kind, id) in \
    (select kind, id from unnest($1::text[], $2::text[]) as given (kind, id))";
/// What may refer to one of the ids, by a field of its own or from within a plugin; looked at more closely afterwards.
const REFERRERS: &str = "select kind, id, spec::text from ringway.resource \
    where kind in ('routes', 'services', 'stream_routes', 'consumers', 'credentials', 'consumer_groups', 'plugin_configs', \
                   'global_rules') \
      and (spec->>'upstream_id' = any($1) or spec->>'service_id' = any($1) or spec->>'plugin_config_id' = any($1) \
           or spec->>'group_id' = any($1) or (kind = 'credentials' and split_part(id, '/', 1) = any($1)) \
           or jsonb_path_exists(spec->'plugins', '$.**.upstream_id') or jsonb_path_exists(spec->'plugins', '$.**.proto_id'))";

/// Who may show one of these keys or names; looked at more closely afterwards.
const CLAIMANTS: &str = "select kind, id, spec::text from ringway.resource where kind in ('consumers', 'credentials') \
    and (spec #>> '{plugins,key-auth,key}' = any($1) or spec #>> '{plugins,basic-auth,username}' = any($2))";

const STORED: &str = "select kind, id, spec::text, revision from ringway.resource where (kind, id) in \
    (select kind, id from unnest($1::text[], $2::text[]) as given (kind, id))";

/// An object before a change.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) spec: Fields,
    pub(super) revision: u64,
}

/// The objects to write; `None` deletes.
pub(super) type Changes = BTreeMap<Place, Option<Fields>>;

/// What was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Committed {
    /// The revision: a new one, or the present one where nothing changed.
    pub(super) revision: u64,
    /// Its timeline.
    pub(super) timeline: u32,
    /// The database's system identifier.
    pub(super) lineage: u64,
    /// What this node served before, where the database did not know of it.
    pub(super) ahead: Option<u64>,
}

/// See the module.
pub(super) struct Work<'a> {
    transaction: Transaction<'a>,
    /// The last revision before this one.
    pub(super) head: u64,
    timeline: u32,
    lineage: u64,
    refused: Option<Arc<Refusal>>,
    ahead: Option<u64>,
    keeps_ends: bool,
}

impl<'a> Work<'a> {
    /// Begins, and waits for its turn. `published` is the timeline of what this control plane last loaded.
    pub(super) async fn begin(
        lease: &'a mut Lease<'_>,
        actor: &Actor,
        refused: Option<Arc<Refusal>>,
        published: u32,
    ) -> Result<Work<'a>, Answer> {
        let wal = lease.timeline();
        if wal < published {
            return Err(Answer::unavailable(format!(
                "this server writes timeline {wal}, and timeline {published} is served: another one was promoted; nothing was written"
            )));
        }
        let lineage = lease.lineage();
        // Said and not left to the server's default: what is read behind the lock has to be what the writer before has left.
        let level = IsolationLevel::ReadCommitted;
        let transaction = lease.client().build_transaction().isolation_level(level).start().await?;
        let actor = format!("admin:{}", actor.name);
        transaction.execute("select set_config('ringway.actor', $1, true)", &[&actor]).await?;
        let head = transaction.query_opt(HEAD, &[]).await?;
        let Some(row) = head else {
            return Err(Answer::unavailable(NO_HEAD));
        };
        let (head, timeline): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Work {
            transaction,
            head: head.unsigned_abs(),
            timeline: timeline.cast_unsigned(),
            lineage,
            refused,
            ahead: None,
            keeps_ends: false,
        })
    }

    /// Notes what this node serves. Under the lock nobody can have written more than the head tells, so a higher version is of
    /// a database that this one is an old copy of.
    pub(super) fn seen(&mut self, served: Option<&Version>) {
        let own = served.filter(|version| version.lineage == self.lineage);
        let ahead = own.filter(|version| version.order() > (self.timeline, self.head));
        self.ahead = ahead.map(|version| version.revision);
    }

    /// For statements of the caller's.
    pub(super) fn transaction(&self) -> &Transaction<'a> {
        &self.transaction
    }

    /// One object.
    pub(super) async fn item(&self, place: &Place) -> Result<Option<Item>, Answer> {
        Ok(self.items(std::slice::from_ref(place)).await?.pop())
    }

    /// Those that are there.
    pub(super) async fn items(&self, places: &[Place]) -> Result<Vec<Item>, Answer> {
        let (kinds, ids) = columns(places);
        let query = format!(
            "select {COLUMNS} from ringway.resource r where (r.kind, r.id) in \
             (select kind, id from unnest($1::text[], $2::text[]) as given (kind, id))"
        );
        let rows = self.transaction.query(&query, &[&kinds, &ids]).await?;
        rows.iter().filter_map(|row| Item::from_row(row).transpose()).collect()
    }

    /// What stands at those places.
    pub(super) async fn stored(&self, places: &[Place]) -> Result<BTreeMap<Place, Stored>, Answer> {
        let (kinds, ids) = columns(places);
        let rows = self.transaction.query(STORED, &[&kinds, &ids]).await?;
        let mut found = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            breathe(index).await;
            let Some(kind) = Kind::from_name(row.try_get(0)?) else { continue };
            let (id, spec, revision): (String, &str, i64) =
                (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            found.insert((kind, id), Stored { spec: fields(spec), revision: revision.unsigned_abs() });
        }
        Ok(found)
    }

    /// All objects that are there.
    pub(super) async fn all(&self) -> Result<BTreeMap<Place, Fields>, Answer> {
        let rows = self.transaction.query("select kind, id, spec::text from ringway.resource", &[]).await?;
        placed(&rows)
    }

    /// A consumer's credentials.
    pub(super) async fn credentials(&self, consumer: &str) -> Result<Vec<Place>, Answer> {
        let query = "select id from ringway.resource where kind = 'credentials' and starts_with(id, $1)";
        let rows = self.transaction.query(query, &[&format!("{consumer}/credentials/")]).await?;
        rows.iter().map(|row| Ok((Kind::Credential, row.try_get(0)?))).collect()
    }

    /// What refers to these places and is not itself among the changes: the referrer, what it refers to, and its field.
    pub(super) async fn referrers(
        &self,
        places: &BTreeSet<Place>,
        changes: &Changes,
    ) -> Result<Vec<(Place, Fields, Place, String)>, Answer> {
        // Of the others no look at all objects is needed to know that nothing refers to them.
        let ids: Vec<&str> =
            places.iter().filter(|(kind, _)| may_be_referred_to(*kind)).map(|(_, id)| id.as_str()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.transaction.query(REFERRERS, &[&ids]).await?;
        let mut found = Vec::new();
        for (place, spec) in placed(&rows)? {
            if changes.contains_key(&place) {
                continue;
            }
            for (to, field) in references(&place, &spec) {
                if places.contains(&to) {
                    found.push((place.clone(), spec.clone(), to, field));
                }
            }
        }
        Ok(found)
    }

    /// Checks the changes, writes them and commits.
    pub(super) async fn finish(self, changes: &Changes) -> Result<Committed, Answer> {
        self.write(changes).await?;
        self.commit().await
    }

    /// Checks the changes and writes them.
    pub(super) async fn write(&self, changes: &Changes) -> Result<(), Answer> {
        self.check(changes).await?;
        let (gone, kept): (Vec<_>, Vec<_>) = changes.iter().partition(|(_, after)| after.is_none());
        if !gone.is_empty() {
            let (kinds, ids) = columns(gone.iter().map(|(place, _)| *place));
            self.transaction.execute(DELETE, &[&kinds, &ids]).await?;
        }
        if !kept.is_empty() {
            let (kinds, ids) = columns(kept.iter().map(|(place, _)| *place));
            let specs: Result<Vec<String>, _> =
                kept.iter().map(|(_, after)| serde_json::to_string(after)).collect();
            let specs =
                specs.map_err(|error| Answer::bad(format!("an object cannot be written: {error}")))?;
            self.transaction.execute(PUT, &[&kinds, &ids, &specs, &self.keeps_ends]).await?;
        }
        Ok(())
    }

    /// What is written keeps the end of its time, if it has one; else writing an object lets it stay.
    pub(super) fn keep_ends(&mut self) {
        self.keeps_ends = true;
    }

    /// Lets the time of what was written end after so many seconds.
    pub(super) async fn end_after(&self, (kind, id): &Place, ttl_s: Option<f64>) -> Result<(), Answer> {
        if let Some(seconds) = ttl_s {
            self.transaction.execute(END, &[&kind.name(), id, &seconds]).await?;
        }
        Ok(())
    }

    /// Commits what was written.
    pub(super) async fn commit(self) -> Result<Committed, Answer> {
        let (lineage, ahead) = (self.lineage, self.ahead);
        let row = self.transaction.query_one("select revision, timeline from ringway.head", &[]).await?;
        let (revision, timeline): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
        self.transaction.commit().await.map_err(|error| {
            Answer::unavailable(format!(
                "the connection to PostgreSQL ended during COMMIT ({}): whether it was written is not known; look before you repeat it",
                crate::source::postgresql::Trouble::from(error)
            ))
        })?;
        Ok(Committed {
            revision: revision.unsigned_abs(),
            timeline: timeline.cast_unsigned(),
            lineage,
            ahead,
        })
    }

    /// Ends without a change.
    pub(super) async fn roll_back(self) -> Result<(), Answer> {
        Ok(self.transaction.rollback().await?)
    }

    /// The routes that a change reaches: those changed, and those that refer to what is changed, directly or through others.
    pub(super) async fn reached_routes(&self, changes: &Changes) -> Result<BTreeSet<String>, Answer> {
        let mut reached: BTreeSet<Place> = changes.keys().cloned().collect();
        let mut edge = reached.clone();
        while !edge.is_empty() {
            let found = self.referrers(&edge, &Changes::new()).await?;
            edge =
                found.into_iter().map(|(place, ..)| place).filter(|place| !reached.contains(place)).collect();
            reached.extend(edge.iter().cloned());
        }
        Ok(reached.into_iter().filter(|(kind, _)| *kind == Kind::Route).map(|(_, id)| id).collect())
    }

    /// Checks the changes in their surroundings.
    pub(super) async fn check(&self, changes: &Changes) -> Result<(), Answer> {
        self.check_base(changes)?;
        let mut faults = Vec::new();
        let mut entries = BTreeMap::new();
        let mut wanted: BTreeMap<Place, (Place, String)> = BTreeMap::new();
        for (index, (place, after)) in changes.iter().enumerate() {
            breathe(index).await;
            let Some(after) = after else { continue };
            for (to, field) in references(place, after) {
                wanted.entry(to).or_insert_with(|| (place.clone(), field));
            }
            add(place, after, &mut entries, &mut faults);
        }
        let gone: BTreeSet<Place> =
            changes.iter().filter(|(_, after)| after.is_none()).map(|(place, _)| place.clone()).collect();
        if let Some((referrer, _, to, field)) = self.referrers(&gone, changes).await?.first() {
            return Err(in_use(to, referrer, field));
        }
        self.check_logins(changes, &entries).await?;
        self.add_references(wanted, changes, &mut entries, &mut faults).await?;
        // What cannot be read is told before what follows from its absence.
        if !faults.is_empty() {
            return Err(Answer::faults(StatusCode::BAD_REQUEST, &faults));
        }
        self.add_neighbours(changes, &mut entries, &mut faults).await?;
        let entries = entries.into_values().map(Arc::new).collect();
        let checked = tokio::task::spawn_blocking(move || validate(&entries)).await;
        faults.extend(checked.map_err(|error| Answer::unavailable(format!("validation failed: {error}")))?);
        if faults.is_empty() { Ok(()) } else { Err(Answer::faults(StatusCode::BAD_REQUEST, &faults)) }
    }

    /// While something else is broken, what is written would not be served.
    fn check_base(&self, changes: &Changes) -> Result<(), Answer> {
        let Some(refusal) = self.refused.as_ref().filter(|refusal| refusal.version.revision == self.head)
        else {
            return Ok(());
        };
        let broken = |fault: &&Fault| Kind::from_name(&fault.kind).is_some();
        let touched = |fault: &Fault| {
            Kind::from_name(&fault.kind).is_some_and(|kind| changes.contains_key(&(kind, fault.id.clone())))
        };
        match refusal.faults.iter().find(broken) {
            Some(fault) if !refusal.faults.iter().any(touched) => Err(Answer::error(
                StatusCode::CONFLICT,
                format!(
                    "revision {} is refused because of {fault}; correct that first: nothing else would be served",
                    self.head
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Adds what is referred to, and what that refers to in turn.
    async fn add_references(
        &self,
        mut wanted: BTreeMap<Place, (Place, String)>,
        changes: &Changes,
        entries: &mut BTreeMap<Place, Entry>,
        faults: &mut Vec<Fault>,
    ) -> Result<(), Answer> {
        loop {
            wanted.retain(|place, _| {
                !matches!(changes.get(place), Some(Some(_))) && !entries.contains_key(place)
            });
            if wanted.is_empty() {
                return Ok(());
            }
            let places: Vec<Place> = wanted.keys().cloned().collect();
            let found: BTreeMap<Place, Fields> =
                self.items(&places).await?.into_iter().map(|item| (item.place(), item.spec)).collect();
            let gone = |place: &Place| !found.contains_key(place) || matches!(changes.get(place), Some(None));
            if let Some((to, (referrer, field))) = wanted.iter().find(|(place, _)| gone(place)) {
                return Err(missing(to, referrer, field));
            }
            wanted.clear();
            for (place, spec) in found {
                for (to, field) in references(&place, &spec) {
                    wanted.insert(to, (place.clone(), field));
                }
                add(&place, &spec, entries, faults);
            }
        }
    }

    /// Refuses what somebody who stays as he is shows already. Those that change are looked at with all the rest.
    async fn check_logins(&self, changes: &Changes, entries: &BTreeMap<Place, Entry>) -> Result<(), Answer> {
        let (mut keys, mut names) = (Vec::new(), Vec::new());
        let mut shown = BTreeMap::new();
        for (place, entry) in entries {
            for login in logins(entry) {
                let identity = String::from_utf8_lossy(login.identity()).into_owned();
                match login {
                    Login::Key(_) => keys.push(identity),
                    Login::Basic(..) => names.push(identity),
                }
                shown.insert(login.claim(), place);
            }
        }
        if shown.is_empty() {
            return Ok(());
        }
        let rows = self.transaction.query(CLAIMANTS, &[&keys, &names]).await?;
        for (place, spec) in placed(&rows)?.into_iter().filter(|(place, _)| !changes.contains_key(place)) {
            let Ok(entry) = parse_owned(place.0.name(), &place.1, Value::Object(spec)) else { continue };
            for login in logins(&entry) {
                if let Some(own) = shown.get(&login.claim()) {
                    return Err(taken(own, &login, &place));
                }
            }
        }
        Ok(())
    }

    /// Kinds whose objects are judged beside each other are checked all together.
    async fn add_neighbours(
        &self,
        changes: &Changes,
        entries: &mut BTreeMap<Place, Entry>,
        faults: &mut Vec<Fault>,
    ) -> Result<(), Answer> {
        let alone = |kind: Kind| {
            matches!(
                kind,
                Kind::Route
                    | Kind::Service
                    | Kind::Upstream
                    | Kind::PluginConfig
                    | Kind::GlobalRule
                    | Kind::Consumer
                    | Kind::Credential
                    | Kind::ConsumerGroup
            )
        };
        let kinds: BTreeSet<&str> =
            changes.keys().map(|(kind, _)| *kind).filter(|kind| !alone(*kind)).map(Kind::name).collect();
        if kinds.is_empty() {
            return Ok(());
        }
        let kinds: Vec<&str> = kinds.into_iter().collect();
        let query = "select kind, id, spec::text from ringway.resource where kind = any($1)";
        for (place, spec) in placed(&self.transaction.query(query, &[&kinds]).await?)? {
            if !changes.contains_key(&place) && !entries.contains_key(&place) {
                add(&place, &spec, entries, faults);
            }
        }
        Ok(())
    }
}

/// Lets the others on this thread have a turn now and then: the source, and who answers the data plane's pings.
pub(super) async fn breathe(index: usize) {
    if index % BREATH_OBJECTS == BREATH_OBJECTS - 1 {
        tokio::task::yield_now().await;
    }
}

/// Objects that are worked on in one go: less than a millisecond's work where they are of the usual size.
const BREATH_OBJECTS: usize = 64;

fn add(place: &Place, spec: &Fields, entries: &mut BTreeMap<Place, Entry>, faults: &mut Vec<Fault>) {
    match parse_owned(place.0.name(), &place.1, Value::Object(spec.clone())) {
        Ok(entry) => {
            entries.insert(place.clone(), entry);
        }
        Err(fault) => faults.push(fault),
    }
}

fn columns<'p>(places: impl IntoIterator<Item = &'p Place>) -> (Vec<&'static str>, Vec<&'p str>) {
    places.into_iter().map(|(kind, id)| (kind.name(), id.as_str())).unzip()
}

fn placed(rows: &[tokio_postgres::Row]) -> Result<BTreeMap<Place, Fields>, Answer> {
    let mut found = BTreeMap::new();
    for row in rows {
        if let Some(kind) = Kind::from_name(row.try_get(0)?) {
            found.insert((kind, row.try_get(1)?), fields(row.try_get(2)?));
        }
    }
    Ok(found)
}

/// In APISIX's words.
fn taken(own: &Place, login: &Login, (kind, id): &Place) -> Answer {
    let about = login.about();
    let whose = match credential(id) {
        Some((consumer, own)) if *kind == Kind::Credential => {
            format!("credential: {own} of consumer: {consumer}")
        }
        _ => format!("consumer: {id}"),
    };
    let text = format!("duplicate {} of plugin {} found with {whose}", about.identity, about.name);
    let field = format!("plugins/{}/{}", about.name, about.identity);
    Answer::bad_object(text.clone(), &in_field(own, &field, text))
}

/// In APISIX's words.
pub(super) fn in_use(to: &Place, referrer: &Place, field: &str) -> Answer {
    let word = |kind| singular(kind).replace('_', " ");
    let (what, who, id) = (word(to.0), word(referrer.0), &referrer.1);
    let text = format!("can not delete this {what}, {who} [{id}] is still using it now");
    let reason = format!("refers to {}/{}, which would be deleted", to.0.name(), to.1);
    Answer::bad_object(text, &in_field(referrer, field, reason))
}

/// In APISIX's words.
fn missing(to: &Place, referrer: &Place, field: &str) -> Answer {
    let what = singular(to.0).replace('_', " ");
    let text = format!("failed to fetch {what} info by {what} id [{}], response code: 404", to.1);
    let reason = format!("refers to {}/{}, which does not exist", to.0.name(), to.1);
    Answer::bad_object(text, &in_field(referrer, field, reason))
}

fn in_field((kind, id): &Place, field: &str, reason: String) -> Fault {
    Fault { kind: kind.name().to_owned(), id: id.clone(), pointer: format!("/{field}"), reason }
}
