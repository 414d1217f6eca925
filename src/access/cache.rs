//! Customers in memory, in shards that are locked by themselves.
//!
//! A customer is read without holding a lock, so news may come meanwhile. Each shard counts what it was told;
//! what was read is kept only if nothing was told to its shard since.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::customer::Known;
use crate::domain::CustomerId;
use crate::store::Used;

/// Enough that those who write and those who ask seldom meet.
const SHARDS: usize = 64;

pub(super) struct Cache {
    shards: Vec<RwLock<Shard>>,
    /// Counts the catalogues; what was read with an older one is read anew.
    generation: AtomicU64,
}

#[derive(Default)]
struct Shard {
    customers: HashMap<CustomerId, Entry>,
    /// Counts what it was told.
    told: u64,
}

enum Entry {
    Customer(Box<Known>),
    Alias(CustomerId),
}

/// What a look into the cache finds.
pub(super) enum Found<T> {
    Answer(T),
    /// The id leads to this customer.
    Alias(CustomerId),
    /// It has to be read.
    Nothing,
}

/// What each shard had been told before a customer was read.
pub(super) struct Marks(Vec<u64>);

impl Default for Cache {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, generation: AtomicU64::new(0) }
    }
}

impl Cache {
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(super) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Answers from a customer that was read with this catalogue.
    pub(super) fn find<T>(
        &self,
        id: &CustomerId,
        generation: u64,
        now: Timestamp,
        answer: impl FnOnce(&Known) -> T,
    ) -> Found<T> {
        match self.read(id).customers.get(id) {
            Some(Entry::Customer(known))
                if known.generation == generation && !known.is_ahead_of(now) =>
            {
                Found::Answer(answer(known))
            }
            Some(Entry::Alias(id)) => Found::Alias(id.clone()),
            Some(Entry::Customer(_)) | None => Found::Nothing,
        }
    }

    /// What has been told so far, to compare when the customer was read.
    pub(super) fn marks(&self) -> Marks {
        Marks(self.shards.iter().map(|shard| lock_read(shard).told).collect())
    }

    /// Keeps a customer that was read, unless news of it came meanwhile.
    pub(super) fn keep(&self, asked: &CustomerId, id: &CustomerId, known: Known, marks: &Marks) {
        self.keep_one(id, Entry::Customer(Box::new(known)), marks);
        if asked != id {
            self.keep_one(asked, Entry::Alias(id.clone()), marks);
        }
    }

    fn keep_one(&self, id: &CustomerId, entry: Entry, marks: &Marks) {
        let mut shard = self.write(id);
        if marks.0.get(place(id)) == Some(&shard.told) {
            shard.customers.insert(id.clone(), entry);
        }
    }

    /// Has a customer read anew.
    pub(super) fn forget(&self, id: &CustomerId) {
        let mut shard = self.write(id);
        shard.told += 1;
        shard.customers.remove(id);
    }

    /// Adds usage that was counted.
    pub(super) fn add(&self, used: &Used) {
        let mut shard = self.write(&used.customer_id);
        shard.told += 1;
        if let Some(Entry::Customer(known)) = shard.customers.get_mut(&used.customer_id) {
            known.add(used);
        }
    }

    fn read(&self, id: &CustomerId) -> RwLockReadGuard<'_, Shard> {
        lock_read(&self.shards[place(id)])
    }

    fn write(&self, id: &CustomerId) -> RwLockWriteGuard<'_, Shard> {
        self.shards[place(id)].write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock_read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn place(id: &CustomerId) -> usize {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    usize::try_from(hasher.finish()).unwrap_or(usize::MAX) % SHARDS
}
