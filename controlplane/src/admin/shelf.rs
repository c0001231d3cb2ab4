//! Where objects are read from: PostgreSQL, or the declarative file, which only reads.
//!
//! Reads go to the source itself and not to what is being served, so that a client sees what it has just written; what is served
//! and what is refused is told by `?wait=`, `GET /v1/nodes` and the status socket.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use ringway_snapshot::Kind;

use super::answer::Answer;
use super::item::{COLUMNS, Item, Place};
use super::pool::{Lease, Pool};
use crate::board::Board;

/// Which part of a kind's objects is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) skip: u64,
    pub(super) take: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) enum Shelf {
    /// PostgreSQL.
    Postgresql(Pool),
    /// The declarative file, and the board that knows its revision.
    File(PathBuf, Arc<Board>),
}

impl Shelf {
    /// One object.
    pub(super) async fn one(&self, place: &Place) -> Result<Option<Item>, Answer> {
        match self {
            Shelf::Postgresql(pool) => {
                let mut lease = pool.reader().await?;
                let query =
                    format!("select {COLUMNS} from ringway.resource r where r.kind = $1 and r.id = $2");
                let row = lease.client().query_opt(&query, &[&place.0.name(), &place.1]).await?;
                lease.give_back();
                row.as_ref().map_or(Ok(None), Item::from_row)
            }
            Shelf::File(..) => Ok(self.of_file(place.0).await?.into_iter().find(|item| item.id == place.1)),
        }
    }

    /// The objects of a kind whose ids begin so, in the order of their ids, all or a slice, and how many there are.
    pub(super) async fn all(
        &self,
        kind: Kind,
        within: &str,
        slice: Option<Slice>,
    ) -> Result<(u64, Vec<Item>), Answer> {
        let Shelf::Postgresql(pool) = self else {
            let mut items = self.of_file(kind).await?;
            items.retain(|item| item.id.starts_with(within));
            let total = u64::try_from(items.len()).unwrap_or(u64::MAX);
            let Slice { skip, take } = slice.unwrap_or(Slice { skip: 0, take: u64::MAX });
            let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            return Ok((total, items.into_iter().skip(place(skip)).take(place(take)).collect()));
        };
        let mut lease = pool.reader().await?;
        let count = "select count(*) from ringway.resource where kind = $1 and starts_with(id, $2)";
        // The page is cut first: what its columns cost is paid for its rows alone.
        let page = slice.map_or_else(String::new, |Slice { skip, take }| {
            format!(" limit {} offset {}", take.min(i64::MAX as u64), skip.min(i64::MAX as u64))
        });
        let query = format!(
            "select {COLUMNS} from (select * from ringway.resource where kind = $1 and starts_with(id, $2) order by id collate \"C\"{page}) r \
             order by r.id collate \"C\""
        );
        let rows = lease.client().query(&query, &[&kind.name(), &within]).await?;
        let total = match slice {
            None => u64::try_from(rows.len()).unwrap_or(u64::MAX),
            Some(_) => {
                let total: i64 =
                    lease.client().query_one(count, &[&kind.name(), &within]).await?.try_get(0)?;
                total.unsigned_abs()
            }
        };
        lease.give_back();
        // Many objects take a while to parse: not on the thread that answers pings.
        let parsed = tokio::task::spawn_blocking(move || {
            rows.iter().filter_map(|row| Item::from_row(row).transpose()).collect::<Result<Vec<_>, _>>()
        });
        let items =
            parsed.await.map_err(|error| Answer::unavailable(format!("reading failed: {error}")))??;
        Ok((total, items))
    }

    /// All objects of the file, or `None` where the source is PostgreSQL.
    pub(super) async fn whole_file(&self) -> Result<Option<Vec<Item>>, Answer> {
        if matches!(self, Shelf::Postgresql(_)) {
            return Ok(None);
        }
        let mut items = Vec::new();
        for kind in Kind::ALL {
            items.extend(self.of_file(kind).await?);
        }
        Ok(Some(items))
    }

    /// A connection to write with.
    pub(super) async fn writer(&self) -> Result<Lease<'_>, Answer> {
        match self {
            Shelf::Postgresql(pool) => pool.writer().await,
            Shelf::File(path, _) => Err(Answer::error(
                StatusCode::FORBIDDEN,
                format!(
                    "the configuration comes from the file {}: change that; this API only reads it",
                    path.display()
                ),
            )),
        }
    }

    /// A connection to read with.
    pub(super) async fn reader(&self) -> Result<Lease<'_>, Answer> {
        match self {
            Shelf::Postgresql(pool) => pool.reader().await,
            Shelf::File(..) => Err(Answer::error(
                StatusCode::NOT_IMPLEMENTED,
                "the configuration comes from a file, which has no history",
            )),
        }
    }

    async fn of_file(&self, kind: Kind) -> Result<Vec<Item>, Answer> {
        let Shelf::File(path, board) = self else { return Ok(Vec::new()) };
        let revision = board.version().map_or(0, |version| version.revision);
        let path = path.clone();
        let read = tokio::task::spawn_blocking(move || crate::source::file::objects(&path)).await;
        let objects = read
            .map_err(|error| Answer::unavailable(format!("reading the file failed: {error}")))?
            .map_err(Answer::unavailable)?;
        let mut items: Vec<Item> = objects
            .into_iter()
            .filter(|(own, ..)| *own == kind)
            .map(|(kind, id, spec)| Item::of_file(kind, id, spec, revision))
            .collect();
        items.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(items)
    }
}
