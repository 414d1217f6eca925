//! Change capture: the changes of a commit, for whoever keeps some of the database in memory.
//!
//! Triggers of the writing connection note it, so that no statement can forget to. Who watches is told before the
//! commit that it comes, since readers see it from that moment on, and after it is on disk and before any caller is
//! answered that it came: whoever has an answer sees what it changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rusqlite::functions::{Context, FunctionFlags};

use super::locked::locked;
use super::log_lines;
use super::noted::{ByOthers, Changes, CountedUsage, Notes};
use super::postgres::{notes, turn_changes};
use super::sql::{self, Connection};
use super::wakeups::{Wakeups, Woken, triggers};
use crate::domain::{CustomerId, FeatureId};

/// A notice of a commit's changes.
#[derive(Clone, Copy, Debug)]
pub enum CommitNews<'a> {
    /// Readers may see them from now on.
    Prepared(&'a Changes),
    /// They are on disk. Each was said to be coming, but for what another process wrote.
    Committed(&'a Changes),
    /// They were said to be coming, and were undone.
    RolledBack(&'a Changes),
}

/// The watcher that is told.
pub(crate) type Watcher = Arc<OnceLock<Watch>>;
type Watch = Box<dyn Fn(CommitNews<'_>) + Send + Sync>;

/// A thing that may hold no longer of what somebody remembers from one transaction to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stale<'a> {
    /// All that is known of a customer.
    Customer(&'a str),
    /// All of it.
    Everything,
}

/// Whoever remembers something. Unlike a watcher it is told at once, since what comes next in the same transaction must not
/// go by what was before.
pub(crate) type Rememberer = Arc<OnceLock<Forget>>;
type Forget = Box<dyn Fn(Stale<'_>) + Send + Sync>;

/// The place that the triggers write to.
#[derive(Clone)]
pub(crate) struct ChangeCapture {
    notes: Arc<Mutex<Notes>>,
    watcher: Watcher,
    wakeups: Arc<Wakeups>,
    rememberer: Rememberer,
    /// Set from a transaction's beginning until its commit: where the next finds it set, one was undone.
    unfinished: Arc<AtomicBool>,
}

/// A place in the notes.
pub(crate) struct CapturePoint {
    catalogue: bool,
    customers: usize,
    used: usize,
    woken: Woken,
    lines: usize,
}

/// The changes that are about to be committed.
#[must_use]
pub(crate) struct PreparedChanges<'a> {
    capture: &'a ChangeCapture,
    notes: Notes,
}

impl PreparedChanges<'_> {
    /// Tells what came of it, and wakes whom it wakes.
    pub(crate) fn tell(self, committed: bool) {
        let changes = &self.notes.changes;
        if let Some(watcher) = self.capture.watcher_of(changes) {
            watcher(if committed {
                CommitNews::Committed(changes)
            } else {
                CommitNews::RolledBack(changes)
            });
        }
        if committed {
            self.capture.unfinished.store(false, Ordering::Relaxed);
            self.capture.wakeups.wake_all(self.notes.woken);
            self.notes.lines.say();
        }
    }
}

/// The triggers of the writing connection. Columns that nobody keeps in memory are left out.
const TRIGGERS: &str = "
    CREATE TEMP TRIGGER note_subscription AFTER INSERT ON main.subscriptions
        BEGIN SELECT note_customer(new.customer_id); END;
    CREATE TEMP TRIGGER note_subscription_change AFTER UPDATE ON main.subscriptions
        BEGIN SELECT note_customer(old.customer_id), note_customer(new.customer_id); END;
    CREATE TEMP TRIGGER note_subscription_gone AFTER DELETE ON main.subscriptions
        BEGIN SELECT note_customer(old.customer_id); END;
    CREATE TEMP TRIGGER note_license AFTER INSERT ON main.licenses BEGIN SELECT note_license(); END;
    CREATE TEMP TRIGGER note_license_change AFTER UPDATE OF agreement_id, first_updated_at_ms ON main.licenses
        WHEN old.agreement_id IS NOT new.agreement_id OR old.first_updated_at_ms IS NOT new.first_updated_at_ms
        BEGIN SELECT note_license(); END;
    CREATE TEMP TRIGGER note_license_gone AFTER DELETE ON main.licenses BEGIN SELECT note_license(); END;
    CREATE TEMP TRIGGER note_agreement AFTER INSERT ON main.agreements BEGIN SELECT note_license(); END;
    CREATE TEMP TRIGGER note_agreement_change AFTER UPDATE OF starts_at_ms ON main.agreements
        WHEN old.starts_at_ms IS NOT new.starts_at_ms BEGIN SELECT note_license(); END;
    CREATE TEMP TRIGGER note_agreement_gone AFTER DELETE ON main.agreements BEGIN SELECT note_license(); END;
    CREATE TEMP TRIGGER note_customer_made AFTER INSERT ON main.customers
        BEGIN SELECT note_customer(new.id); END;
    CREATE TEMP TRIGGER note_customer_change AFTER UPDATE ON main.customers
        BEGIN SELECT note_customer(new.id); END;
    CREATE TEMP TRIGGER note_customer_gone AFTER DELETE ON main.customers
        BEGIN SELECT note_customer(old.id); END;
    CREATE TEMP TRIGGER note_alias AFTER INSERT ON main.customer_aliases
        BEGIN SELECT note_customer(new.alias); END;
    CREATE TEMP TRIGGER note_alias_change AFTER UPDATE ON main.customer_aliases
        BEGIN SELECT note_customer(new.alias); END;
    CREATE TEMP TRIGGER note_alias_gone AFTER DELETE ON main.customer_aliases
        BEGIN SELECT note_customer(old.alias); END;
    CREATE TEMP TRIGGER note_plan AFTER INSERT ON main.plans BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_plan_change AFTER UPDATE ON main.plans BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_grant AFTER INSERT ON main.plan_entitlements
        BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_grant_gone AFTER DELETE ON main.plan_entitlements
        BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_feature AFTER INSERT ON main.features BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_feature_change AFTER UPDATE ON main.features BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_billed AFTER INSERT ON main.feature_dimensions
        BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_billed_gone AFTER DELETE ON main.feature_dimensions
        BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_licensed AFTER UPDATE OF licensed_from_hour ON main.products
        WHEN old.licensed_from_hour IS NOT new.licensed_from_hour BEGIN SELECT note_catalogue(); END;
    CREATE TEMP TRIGGER note_usage AFTER INSERT ON main.usage_hours
        BEGIN SELECT note_usage(new.customer_id, new.feature_id, new.product_id, new.holder, new.from_ms, new.quantity); END;
    CREATE TEMP TRIGGER note_more_usage AFTER UPDATE ON main.usage_hours
        BEGIN SELECT note_usage(new.customer_id, new.feature_id, new.product_id, new.holder, new.from_ms,
            new.quantity - old.quantity); END;
";

impl ChangeCapture {
    /// Has the connection note what it changes.
    pub(crate) fn install(
        connection: &Connection,
        watcher: Watcher,
        wakeups: Arc<Wakeups>,
        rememberer: Rememberer,
    ) -> sql::Result<Self> {
        let (notes, unfinished) = Default::default();
        let capture = Self { notes, watcher, wakeups, rememberer, unfinished };
        match connection {
            Connection::Sqlite(file) => capture.note_by_functions(file)?,
            Connection::Postgres(session) => {
                // A trigger there cannot call here: whatever may be meant is forgotten.
                let forgetting = capture.clone();
                session.on_touch(move || forgetting.forget(Stale::Everything));
                session.run_first(notes::WRITER)?;
            }
            Connection::Strand(_) => return Err(sql::Error::WithinStrand),
        }
        Ok(capture)
    }

    /// Has the triggers of SQLite's connection call functions that note.
    fn note_by_functions(&self, connection: &rusqlite::Connection) -> rusqlite::Result<()> {
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
        let note =
            |name, arguments, write: fn(&mut Changes, &Context<'_>) -> rusqlite::Result<()>| {
                let capture = self.clone();
                connection.create_scalar_function(name, arguments, flags, move |context| {
                    if capture.watcher.get().is_some() {
                        capture.with(|notes| write(&mut notes.changes, context))?;
                    }
                    Ok(0_i64)
                })
            };
        note("note_catalogue", 0, |changes, _| {
            changes.catalogue = true;
            Ok(())
        })?;
        let noting = self.clone();
        connection.create_scalar_function("note_customer", 1, flags, move |context| {
            let id = context.get_raw(0).as_str()?;
            noting.forget(Stale::Customer(id));
            if noting.watcher.get().is_some() {
                noting.with(|notes| notes.changes.customers.push(CustomerId::new(id)));
            }
            Ok(0_i64)
        })?;
        let forgetting = self.clone();
        // Whose it is would have to be looked for: news of licences are few beside usage.
        connection.create_scalar_function("note_license", 0, flags, move |_| {
            forgetting.forget(Stale::Everything);
            Ok(0_i64)
        })?;
        note("note_usage", 6, |changes, context| {
            changes.used.push(CountedUsage {
                customer_id: CustomerId::new(context.get::<String>(0)?),
                feature_id: FeatureId::new(context.get::<String>(1)?),
                product: context.get(2)?,
                holder: context.get(3)?,
                from_ms: context.get(4)?,
                millionths: context.get(5)?,
            });
            Ok(())
        })?;
        let waking = self.clone();
        connection.create_scalar_function("note_woken", 1, flags, move |context| {
            let bits = context.get(0)?;
            waking.with(|notes| notes.woken.add(bits));
            Ok(0_i64)
        })?;
        connection.execute_batch(TRIGGERS)?;
        connection.execute_batch(&triggers())?;
        let saying = self.clone();
        log_lines::install(connection, move |line| saying.with(|notes| notes.lines.push(line)))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Notes) -> T) -> T {
        work(&mut locked(&self.notes))
    }

    /// Returns who is told of these changes.
    fn watcher_of(&self, changes: &Changes) -> Option<&Watch> {
        self.watcher.get().filter(|_| !changes.is_empty())
    }

    /// Begins the notes of a transaction, with nothing in them: whatever is there is of one that was undone.
    pub(crate) fn begin(&self) {
        if self.unfinished.swap(true, Ordering::Relaxed) {
            self.forget(Stale::Everything);
        }
        self.with(|notes| *notes = Notes::default());
    }

    fn forget(&self, stale: Stale<'_>) {
        if let Some(forget) = self.rememberer.get() {
            forget(stale);
        }
    }

    pub(crate) fn mark(&self) -> CapturePoint {
        self.with(|Notes { changes, woken, lines, .. }| CapturePoint {
            catalogue: changes.catalogue,
            customers: changes.customers.len(),
            used: changes.used.len(),
            woken: *woken,
            lines: lines.len(),
        })
    }

    /// Forgets what was noted since, which was undone.
    pub(crate) fn back_to(&self, mark: &CapturePoint) {
        self.with(|Notes { changes, woken, lines, .. }| {
            changes.catalogue = mark.catalogue;
            changes.customers.truncate(mark.customers);
            changes.used.truncate(mark.used);
            *woken = mark.woken;
            lines.truncate(mark.lines);
        });
        self.forget(Stale::Everything);
    }

    /// Tells what other workers have changed.
    pub(super) fn tell_of_others(&self, others: ByOthers) {
        let ByOthers { changed, used, catalogue, licenses, woken } = others;
        if licenses {
            self.forget(Stale::Everything);
        } else {
            for customer in &changed {
                self.forget(Stale::Customer(customer.as_str()));
            }
        }
        // What they counted is not added up here: it is read anew.
        let customers = changed.union(&used).cloned().collect();
        let changes = Changes { catalogue, customers, used: Vec::new() };
        if let Some(watcher) = self.watcher_of(&changes) {
            watcher(CommitNews::Committed(&changes));
        }
        self.wakeups.wake_all(woken);
    }

    /// Tells that anything may have changed: somebody else has written.
    pub(crate) fn tell_everything(&self) {
        self.forget(Stale::Everything);
        if let Some(watcher) = self.watcher.get() {
            watcher(CommitNews::Committed(&Changes { catalogue: true, ..Changes::default() }));
        }
        self.wakeups.wake_all(Woken::BY_OTHERS);
    }

    /// Asks ahead for what [`announce`](Self::announce) reads.
    pub(crate) fn ask_ahead(connection: &Connection) -> sql::Result<()> {
        if connection.is_remote() { notes::ask_ahead(connection) } else { Ok(()) }
    }

    /// Tells that what was noted is about to be committed; what comes of it is told by [`PreparedChanges::tell`].
    pub(crate) fn announce(&self, connection: &Connection) -> sql::Result<PreparedChanges<'_>> {
        let notes = match connection {
            Connection::Sqlite(_) => self.with(std::mem::take),
            Connection::Postgres(session) => {
                let notes = notes::read(connection)?;
                turn_changes::write(connection, session, &notes)?;
                notes
            }
            Connection::Strand(_) => return Err(sql::Error::WithinStrand),
        };
        if let Some(watcher) = self.watcher_of(&notes.changes) {
            watcher(CommitNews::Prepared(&notes.changes));
        }
        Ok(PreparedChanges { capture: self, notes })
    }
}
