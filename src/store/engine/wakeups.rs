//! Wake-ups: who has to look again after a commit.
//!
//! The table below says which change wakes whom. Its triggers stand on the writing connection, so that no statement can
//! forget to wake somebody, and the writer wakes them once the change is on disk: what is undone wakes nobody. A wake-up
//! says "look again", never what changed. What another process writes is noticed within moments: another worker leaves word
//! of whom it wakes, and of a file [`Woken::BY_OTHERS`] look again. Everybody who waits here has a timer besides.

use tokio::sync::watch;

/// Somebody who waits for the database to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiter {
    /// The reconciler: a buyer became due.
    Buyers,
    /// The sweep: a whole product is to be listed now.
    Sweep,
    /// The schedule that keeps products in step with their listings.
    Catalog,
    /// Whoever follows the dates of the seller's own subscriptions.
    Direct,
    /// The metering engine: something may be due for closing or sending.
    Metering,
    /// The webhook and whoever reads the event feed: there is more to read.
    Events,
    /// Callers who wait until a customer's buyers were looked at.
    Looks,
}

impl Waiter {
    /// Everybody, in the order of their bits.
    pub(crate) const ALL: [Self; 7] = [
        Self::Buyers,
        Self::Sweep,
        Self::Catalog,
        Self::Direct,
        Self::Metering,
        Self::Events,
        Self::Looks,
    ];

    pub(in crate::store) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A change that wakes somebody.
pub(crate) struct Rule {
    /// The statement, with the columns that it sets.
    pub(in crate::store) does: &'static str,
    /// The table.
    pub(in crate::store) table: &'static str,
    /// The condition on the rows that count.
    pub(in crate::store) when: &'static str,
    /// The waiter that is woken.
    pub(in crate::store) wakes: Waiter,
}

const fn rule(does: &'static str, table: &'static str, when: &'static str, wakes: Waiter) -> Rule {
    Rule { does, table, when, wakes }
}

/// The changes, and whom each wakes. Where somebody's own writes touch what wakes it, a rule is about what comes sooner
/// than before, so that nobody keeps itself awake.
pub(crate) const RULES: &[Rule] = &[
    rule("INSERT", "buyers", "new.due_at_ms IS NOT NULL", Waiter::Buyers),
    rule(
        "UPDATE OF due_at_ms",
        "buyers",
        "new.due_at_ms < coalesce(old.due_at_ms, 9223372036854775807)",
        Waiter::Buyers,
    ),
    // A look is over, or put off.
    rule(
        "UPDATE OF due_at_ms",
        "buyers",
        "old.due_at_ms < coalesce(new.due_at_ms, 9223372036854775807)",
        Waiter::Looks,
    ),
    rule("INSERT", "products", "TRUE", Waiter::Sweep),
    // Whoever holds what means another plan by now is looked at with the rest of its product.
    rule(
        "UPDATE OF usage_plan_id",
        "products",
        "new.usage_plan_id IS DISTINCT FROM old.usage_plan_id",
        Waiter::Sweep,
    ),
    rule("UPDATE OF plan_id", "dimensions", "new.plan_id IS DISTINCT FROM old.plan_id", Waiter::Sweep),
    // All agreements are to be listed.
    rule("DELETE", "agreement_listings", "TRUE", Waiter::Sweep),
    // A person has let endings go.
    rule(
        "UPDATE OF confirmed_at_ms",
        "brakes",
        "new.confirmed_at_ms IS NOT NULL AND new.confirmed_at_ms IS DISTINCT FROM old.confirmed_at_ms",
        Waiter::Sweep,
    ),
    rule("INSERT", "subscriptions", "new.source = 'direct'", Waiter::Direct),
    rule(
        "UPDATE OF starts_at_ms, ends_at_ms, status",
        "subscriptions",
        "new.source = 'direct' AND new.ended_at_ms IS NULL AND (new.starts_at_ms IS DISTINCT FROM old.starts_at_ms
            OR new.ends_at_ms IS DISTINCT FROM old.ends_at_ms OR new.status IS DISTINCT FROM old.status)",
        Waiter::Direct,
    ),
    // Usage may have waited for it.
    rule("INSERT", "subscriptions", "new.source = 'aws'", Waiter::Metering),
    // An end is billed at once.
    rule(
        "UPDATE OF customer_id, plan_id, status, starts_at_ms, ends_at_ms, ended_at_ms, renewed_by",
        "subscriptions",
        "new.source = 'aws' AND (new.customer_id IS DISTINCT FROM old.customer_id OR new.plan_id IS DISTINCT FROM old.plan_id
            OR new.status IS DISTINCT FROM old.status OR new.starts_at_ms IS DISTINCT FROM old.starts_at_ms
            OR new.ends_at_ms IS DISTINCT FROM old.ends_at_ms OR new.ended_at_ms IS DISTINCT FROM old.ended_at_ms
            OR new.renewed_by IS DISTINCT FROM old.renewed_by)",
        Waiter::Metering,
    ),
    // A parked record is sent after all, or a person has moved it on.
    rule(
        "UPDATE OF state",
        "metering_records",
        "old.state = 'parked' AND new.state = 'ready'",
        Waiter::Metering,
    ),
    rule(
        "UPDATE OF carried_out",
        "metering_records",
        "new.carried_out > old.carried_out",
        Waiter::Metering,
    ),
    rule(
        "UPDATE OF next_attempt_at_ms",
        "metering_records",
        "new.next_attempt_at_ms < old.next_attempt_at_ms",
        Waiter::Metering,
    ),
    rule("INSERT", "events", "TRUE", Waiter::Events),
    // The webhook was set to another place.
    rule("INSERT", "cursors", "new.reader = 'webhook'", Waiter::Events),
    rule("UPDATE OF turn", "cursors", "new.turn IS DISTINCT FROM old.turn", Waiter::Events),
    // A person has paused or resumed it.
    rule(
        "UPDATE OF paused_at_ms",
        "cursors",
        "new.paused_at_ms IS DISTINCT FROM old.paused_at_ms",
        Waiter::Events,
    ),
];

/// The waiters that a transaction wakes once it is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken(u8);

impl Woken {
    /// Those who look again where somebody else has written: they read what is due by an index, so it costs little.
    pub(crate) const BY_OTHERS: Self = Self(
        Waiter::Buyers.bit() | Waiter::Direct.bit() | Waiter::Events.bit() | Waiter::Looks.bit(),
    );

    pub(crate) const fn add(&mut self, bits: u8) {
        self.0 |= bits;
    }

    pub(in crate::store) const fn bits(self) -> u8 {
        self.0
    }
}

/// Returns the triggers that note whom a transaction wakes, by `note_woken(bits)`.
pub(crate) fn triggers() -> String {
    let trigger = |(number, rule): (usize, &Rule)| {
        format!(
            "CREATE TEMP TRIGGER wake_{number} AFTER {} ON main.{} WHEN {}\n    BEGIN SELECT note_woken({}); END;\n",
            rule.does,
            rule.table,
            rule.when,
            rule.wakes.bit()
        )
    };
    RULES.iter().enumerate().map(trigger).collect()
}

/// The wake-ups of everybody who waits. Each counts what may have brought something for its waiter.
#[derive(Debug, Default)]
pub struct Wakeups([watch::Sender<u64>; Waiter::ALL.len()]);

impl Wakeups {
    /// Returns the wake-ups of one waiter from now on.
    pub fn of(&self, waiter: Waiter) -> Wakeup {
        Wakeup(self.0[waiter as usize].subscribe())
    }

    /// Wakes somebody for a reason that no commit tells, as that AWS takes our calls again.
    pub fn wake(&self, waiter: Waiter) {
        self.0[waiter as usize].send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes whom a commit wakes.
    pub(crate) fn wake_all(&self, woken: Woken) {
        for waiter in Waiter::ALL.into_iter().filter(|waiter| woken.0 & waiter.bit() != 0) {
            self.wake(waiter);
        }
    }
}

/// The wake-ups of one who waits.
#[derive(Debug)]
pub struct Wakeup(watch::Receiver<u64>);

impl Wakeup {
    /// Forgets the wake-ups so far. Done before the database is read, so that one between the two is not lost.
    pub fn arm(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for a wake-up since it was armed.
    pub async fn woken(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone, and nothing will come of it.
            std::future::pending::<()>().await;
        }
    }

    /// Reports whether there was a wake-up since it was armed.
    pub fn is_woken(&self) -> bool {
        self.0.has_changed().unwrap_or(false)
    }
}
