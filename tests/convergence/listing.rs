//! Most events lost: what whole listings and listings of changes show, in any mixture, ends at what AWS holds.

use std::collections::BTreeSet;

use super::support::database::open_store;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use marketd::clock::Clock;
use marketd::domain::ProductCode;
use marketd::domain::listing::Listing;
use marketd::sandbox::market::{Market, Options, Outgoing, Product, Protocol};
use marketd::store::Store;

use super::support::listings::{search, sweep_agreements};
use super::support::seller::{
    Message, look_at_everybody_due, look_at_who_holds_something, patience,
};
use super::support::{held_by_aws, import, live_a_while};
use super::{START, held_by_us};

/// Reads the listing that is due of a product's agreements.
pub(super) async fn sweep(store: &Store, market: &mut Market, product: &Product, now: Timestamp) {
    let ask = |input: &_| search(market, now, input);
    sweep_agreements(store, product, &Clock::manual(now), 25, ask).await.unwrap();
}

struct Sweeping {
    rng: Rng,
    market: Market,
    products: Vec<Product>,
    folder: tempfile::TempDir,
    store: Store,
    clock: Clock,
    kinds: BTreeSet<&'static str>,
}

impl Sweeping {
    async fn begin(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut market = Market::with_demo_catalog(seed);
        market.set_options(Options {
            license_delay: SignedDuration::from_secs(rng.i64(0..600)),
            deprovision_delay: SignedDuration::from_secs(rng.i64(0..600)),
            ..Options::default()
        });
        // Of what is sold by name to those who pay as they go no API tells.
        let sold = |it: &&Product| it.protocol == Protocol::Licensed;
        let products: Vec<Product> = market.products().filter(sold).cloned().collect();
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let start = START.parse().unwrap();
        for product in &products {
            store.import_product(import(product), start).await.unwrap();
        }
        let clock = Clock::manual(start);
        Self { rng, market, products, folder, store, clock, kinds: BTreeSet::new() }
    }

    /// Events that come, in any order.
    async fn hear(&mut self, mut sent: Vec<Message>) {
        self.rng.shuffle(&mut sent);
        let heard = sent.iter().map(Message::incoming).collect();
        self.store.record_notifications(heard, self.clock.now()).await.unwrap();
    }

    async fn sweep(&mut self) {
        for product in self.products.clone() {
            let Self { rng, market, clock, store, .. } = self;
            let now = clock.now();
            let code = ProductCode::new(&product.product_code);
            look_at_who_holds_something(store, market, &code, now).await.unwrap();
            let size = rng.usize(1..50);
            let ask = |input: &_| search(market, now, input);
            let kind = match sweep_agreements(store, &product, clock, size, ask).await.unwrap() {
                Listing::Whole { .. } => "whole",
                Listing::ChangedAfter(_) => "changes",
            };
            self.kinds.insert(kind);
        }
        self.look().await;
    }

    async fn look(&mut self) {
        look_at_everybody_due(&self.store, &mut self.market, self.clock.now()).await.unwrap();
    }

    /// Which kind of listing is due at a sweep, chance decides by when the last whole one was.
    async fn check(mut self, seed: u64) {
        let mut steps = Vec::new();
        let kinds = self.products.clone();
        live_a_while(&mut self.rng, &kinds, 300, |wait, step| steps.push((wait, step)));
        let mut number: usize = 0;
        for (wait, step) in steps {
            self.clock.set(self.clock.now() + wait);
            let now = self.clock.now();
            if let Some((account, action)) = step {
                self.market.act(now, &account, action).ok();
            }
            let sent: Vec<Outgoing> = self.market.take_outgoing(now);
            let mut heard = Vec::new();
            for outgoing in sent {
                number += 1;
                if self.rng.u32(0..4) == 0 {
                    heard.push(Message::of(&outgoing, number));
                }
            }
            self.hear(heard).await;
            match self.rng.u32(0..20) {
                0 => self.sweep().await,
                1 | 2 => self.look().await,
                _ => {}
            }
        }
        // A second look at what is missing, and then as at any other time: a sweep of either kind.
        for wait in [SignedDuration::ZERO, patience().second_look, SignedDuration::from_hours(6)] {
            self.clock.set(self.clock.now() + wait);
            self.market.tick(self.clock.now());
            self.sweep().await;
            self.look().await;
        }
        let (ours, theirs) = (held_by_us(&self.store).await, of(&self.products, &self.market));
        let only_ours: Vec<_> = ours.iter().filter(|it| !theirs.contains(it)).collect();
        let only_theirs: Vec<_> = theirs.iter().filter(|it| !ours.contains(it)).collect();
        assert!(
            only_ours.is_empty() && only_theirs.is_empty() && ours.len() == theirs.len(),
            "seed {seed}: only ours {only_ours:#?}, only AWS's {only_theirs:#?}"
        );
        assert_eq!(self.kinds, BTreeSet::from(["changes", "whole"]), "seed {seed}");
        drop(self.folder);
    }
}

fn of(products: &[Product], market: &Market) -> Vec<String> {
    let mut held = held_by_aws(market);
    held.retain(|it| products.iter().any(|product| it.starts_with(&product.product_code)));
    held
}

#[tokio::test]
async fn whatever_events_are_lost_sweeps_end_at_what_aws_holds() {
    let seeds = std::env::var("MARKETD_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(8) {
        Sweeping::begin(seed).await.check(seed).await;
    }
}
