//! A crash that puts back an older copy: what was reported, billed and heard since is forgotten, and comes again in part.

use std::collections::{BTreeMap, BTreeSet};

use super::support::database::open_store;
use jiff::SignedDuration;
use marketd::domain::{ClockHour, Quantity};
use marketd::store::{RecordRow, back_up, restore};

use super::pruning::LetGo;
use super::support::seller::Message;
use super::{Simulation, Step};

/// A backup, and what the world around it was like.
pub(super) struct Backup {
    name: String,
    promised: BTreeMap<String, Quantity>,
    reported: usize,
    /// Mail that was under way then, and all that was sent since.
    pub(super) mail: Vec<Message>,
    named: bool,
    let_go: LetGo,
}

/// What is remembered of ledgers that were lost.
#[derive(Default)]
pub(super) struct Lost {
    /// What AWS had honoured by then.
    pub(super) honoured: BTreeSet<String>,
    /// Where each event was billed: product, dimension and hour.
    billed: BTreeMap<String, BTreeSet<(String, String, ClockHour)>>,
    /// The last hour of which the ledger may know less than AWS.
    pub(super) through: Option<ClockHour>,
}

impl Simulation {
    pub(super) async fn back_up_or_restore(&mut self) -> Step {
        // A server has tools of its own for this.
        if self.store.path().is_none() {
            return Ok(());
        }
        match self.backup.take() {
            Some(backup) if self.rng.u32(0..3) == 0 => self.put_back(backup).await,
            Some(backup) if self.rng.bool() => {
                self.backup = Some(backup);
                Ok(())
            }
            _ => {
                self.back_up().await;
                Ok(())
            }
        }
    }

    async fn back_up(&mut self) {
        self.backups += 1;
        let name = format!("copy-{}.db", self.backups);
        let (from, into) = (self.folder.path().join("marketd.db"), self.folder.path().join(&name));
        back_up(&from, &into, self.clock.now(), |_| {}).await.unwrap();
        self.backup = Some(Backup {
            name,
            promised: self.promised.clone(),
            reported: self.reported.len(),
            mail: self.mail.clone(),
            named: self.named,
            let_go: self.let_go.clone(),
        });
    }

    async fn put_back(&mut self, backup: Backup) -> Step {
        // What the process that dies had begun is written, or not; what was billed is asked of a ledger that is open.
        self.restart();
        self.remember_what_is_lost().await;
        self.store.close();
        // Whoever puts it back has a clock that is right.
        self.clock.set(self.aws.clock.now());
        let now = self.clock.now();
        let database = self.folder.path().join("marketd.db");
        let replay = SignedDuration::from_mins(self.rng.i64(0..180));
        restore(&self.folder.path().join(&backup.name), &database, replay, now, &mut |_| {})
            .unwrap();
        self.store = open_store(&database);
        self.aws.forget_what_was_sent();
        self.promised = backup.promised;
        self.mail = backup.mail;
        self.named = backup.named;
        self.let_go = backup.let_go;
        // The application reports again what it knows of, or a part of it.
        let all = self.rng.bool();
        for event in self.reported.split_off(backup.reported) {
            if !all && self.rng.bool() {
                continue;
            }
            self.reported.push(event.clone());
            self.keep(&[event]).await?;
        }
        Ok(())
    }

    async fn remember_what_is_lost(&mut self) {
        for event in self.usage().await.into_iter().filter(|it| it.billed > Quantity::ZERO) {
            let Some(record) = event.metering_record.filter(|it| it.state == "accepted") else {
                continue;
            };
            let place = (record.product_id.to_string(), record.dimension.to_string(), record.hour);
            self.lost.billed.entry(event.id).or_default().insert(place);
        }
        let market = self.aws.market.lock().unwrap();
        let honoured = market.ledger().honoured().iter();
        self.lost.honoured.extend(honoured.map(|it| it.metering_record_id.clone()));
        self.lost.through = Some(ClockHour::of(self.aws.clock.now()));
    }

    /// Whether a record is of an hour of which AWS may know more.
    pub(super) fn is_unknown(&self, record: &RecordRow) -> bool {
        self.lost.through.is_some_and(|through| record.hour <= through)
    }

    /// No event that a lost ledger billed is billed to another hour by the one that goes on. Where AWS took the record for
    /// one of the lost ledger's, of the same quantity by chance, it has billed nothing anew.
    pub(super) async fn assert_no_event_is_billed_in_two_lives(&self) {
        let records = self.records().await;
        let bills_nothing = |id: &str| {
            records.iter().find(|record| record.id == id).is_some_and(|record| {
                let honoured = record.metering_record_id.as_ref();
                record.quantity == Quantity::ZERO
                    || honoured.is_some_and(|honoured| self.lost.honoured.contains(honoured))
            })
        };
        for event in self.usage().await.into_iter().filter(|it| it.billed > Quantity::ZERO) {
            let Some(record) = event.metering_record.clone().filter(|it| it.state == "accepted")
            else {
                continue;
            };
            let Some(before) = self.lost.billed.get(&event.id) else { continue };
            let place = (record.product_id.to_string(), record.dimension.to_string(), record.hour);
            let once = before.contains(&place) || bills_nothing(&record.id);
            assert!(once, "{event:?} was billed in {before:?}");
        }
    }
}
