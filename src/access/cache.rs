//! Customers in memory, in shards that are locked by themselves.
//!
//! A customer is read without holding a lock, so news may come meanwhile. Each shard counts what it was told;
//! what was read is kept only if nothing was told to its shard since. Nor is it kept while usage is on its way there:
//! what was read may hold it already, and it would be added once more.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::customer::Known;
use crate::domain::CustomerId;
use crate::store::CountedUsage;

/// The number of shards: enough that those who write and those who ask seldom meet.
const SHARDS: usize = 64;

pub(super) struct Cache {
    shards: Vec<RwLock<Shard>>,
    /// The number of catalogues so far; what was read with an older one is read anew.
    generation: AtomicU64,
}

#[derive(Default)]
struct Shard {
    customers: HashMap<CustomerId, Entry>,
    /// The number of times that it was told something.
    told: u64,
    /// Usage that may be seen in the database and was not told yet.
    coming: usize,
}

enum Entry {
    Customer(Box<Known>),
    Alias(CustomerId),
}

/// The outcome of finding a customer in the cache.
pub(super) enum Found<T> {
    Answer(T),
    /// The id leads to this customer.
    Alias(CustomerId),
    /// It has to be read.
    Nothing,
}

/// The marks of what each shard had been told before a customer was read.
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

    /// Returns what has been told so far, to compare when the customer was read.
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
        if shard.coming == 0 && marks.0.get(place(id)) == Some(&shard.told) {
            shard.customers.insert(id.clone(), entry);
        }
    }

    /// Has a customer read anew.
    pub(super) fn forget(&self, id: &CustomerId) {
        let mut shard = self.write(id);
        shard.told += 1;
        shard.customers.remove(id);
    }

    /// Expects usage that is about to be seen in the database: each is added, or expected no more.
    pub(super) fn expect(&self, coming: &[CountedUsage]) {
        for used in coming {
            self.write(&used.customer_id).coming += 1;
        }
    }

    /// Expects usage no more, as it was undone.
    pub(super) fn expect_no_more(&self, undone: &[CountedUsage]) {
        for used in undone {
            self.write(&used.customer_id).coming -= 1;
        }
    }

    /// Adds usage that was counted.
    pub(super) fn add(&self, used: &CountedUsage) {
        let mut shard = self.write(&used.customer_id);
        shard.told += 1;
        shard.coming -= 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::FeatureId;
    use crate::store::CustomerFacts;

    fn used(customer: &CustomerId) -> CountedUsage {
        CountedUsage {
            customer_id: customer.clone(),
            feature_id: FeatureId::new("calls"),
            product: String::new(),
            holder: String::new(),
            from_ms: 0,
            millionths: 1,
        }
    }

    #[test]
    fn what_may_hold_usage_that_was_not_told_yet_is_not_kept() {
        let customer = CustomerId::new("acme");
        let read = |cache: &Cache, marks: &Marks| {
            let facts = CustomerFacts {
                id: customer.clone(),
                held: Box::default(),
                meters: Box::default(),
                holdings: None,
            };
            cache.keep(&customer, &customer, Known::new(facts, 0), marks);
            matches!(cache.find(&customer, 0, Timestamp::UNIX_EPOCH, |_| ()), Found::Answer(()))
        };
        let coming = [used(&customer)];
        let cache = Cache::default();
        // Read before the commit or after it, and kept before it is told.
        for marked_before in [true, false] {
            let before = cache.marks();
            cache.expect(&coming);
            let after = cache.marks();
            assert!(!read(&cache, if marked_before { &before } else { &after }));
            cache.add(&coming[0]);
            assert!(!read(&cache, &before) && !read(&cache, &after), "it was told since");
            assert!(read(&cache, &cache.marks()), "and now there is nothing more to come");
            cache.forget(&customer);
        }
        cache.expect(&coming);
        cache.expect_no_more(&coming);
        assert!(read(&cache, &cache.marks()), "undone is not coming");
    }
}
