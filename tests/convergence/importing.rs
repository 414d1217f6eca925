//! What was told before a product was imported is let go with the import, or not at all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::support::database::open_store;
use jiff::Timestamp;
use marketd::domain::manifest::{Catalogue, ProductEntry};
use marketd::domain::plan::Audience;
use marketd::domain::{Id, PlanId};
use marketd::sandbox::market::{Action, Market, Order, Product};
use marketd::store::{ImportError, ManifestRequest, Store};

use super::support::seller::{Message, look_at_everybody_due};
use super::support::sql::Trigger;
use super::support::{held_by_aws, import, listing};
use super::{START, held_by_us};

struct Told {
    folder: tempfile::TempDir,
    store: Store,
    market: Market,
    product: Product,
    now: Timestamp,
}

/// A buyer of a product that is not imported, of whom everything was told.
async fn told_before() -> Told {
    let mut market = Market::with_demo_catalog(5);
    let product = market.products().find(|it| it.title == "Acme Stream").unwrap().clone();
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("marketd.db"));
    let now: Timestamp = START.parse().unwrap();
    let order = Order::of(&product.product_code);
    market.act(now, "500000000001", Action::Subscribe(order.clone())).unwrap();
    market.act(now, "500000000002", Action::Subscribe(order)).unwrap();
    let sent = market.take_outgoing(now);
    for (number, sent) in sent.iter().enumerate() {
        let mut message = Message::of(sent, number);
        if number % 2 == 0 {
            // By the catalog's id alone: nobody knows yet whose it is.
            let code = format!("\"code\":\"{}\"", product.product_code);
            message.body = message.body.replace(&code, "\"code\":null");
        }
        store.record_notifications(vec![message.incoming()], now).await.unwrap();
    }
    Told { folder, store, market, product, now }
}

impl Told {
    fn database(&self) -> PathBuf {
        self.folder.path().join("marketd.db")
    }

    async fn is_as_aws_holds_it(&mut self) {
        look_at_everybody_due(&self.store, &mut self.market, self.now).await.unwrap();
        let ours = held_by_us(&self.store).await;
        assert_eq!(ours.len(), 2);
        assert_eq!(ours, held_by_aws(&self.market));
    }

    fn as_a_file(&self) -> ManifestRequest {
        let plan = PlanId::new("usage");
        let entry = ProductEntry {
            entity_id: Id::new(&self.product.entity_id),
            usage_plan: Some(plan),
            plans: None,
        };
        let products = BTreeMap::from([(Id::new("stream"), entry)]);
        let listing = listing(&self.product);
        ManifestRequest {
            file: Catalogue { products, ..Catalogue::default() },
            listings: BTreeMap::from([(listing.entity_id.clone(), listing)]),
            audience: Some(Audience::All),
            dry_run: false,
        }
    }
}

/// The database refuses to let anybody go.
const STOPS: Trigger<'_> = Trigger {
    table: "buyers",
    at: "BEFORE UPDATE OF due_at_ms",
    when: "new.id = old.id",
    does: None,
};

#[tokio::test]
async fn an_import_that_stops_before_it_lets_go_has_not_happened() {
    let mut told = told_before().await;
    STOPS.set(&told.database());
    let stopped = told.store.import_product(import(&told.product), told.now).await;
    assert!(matches!(stopped, Err(ImportError::Store(_))), "{stopped:?}");
    assert!(told.store.imported_codes().await.unwrap().is_empty(), "none of it");
    STOPS.end(&told.database());
    told.store.import_product(import(&told.product), told.now).await.unwrap();
    told.is_as_aws_holds_it().await;
}

#[tokio::test]
async fn a_file_that_stops_before_it_lets_go_has_changed_nothing() {
    let mut told = told_before().await;
    STOPS.set(&told.database());
    told.store.apply_catalogue(told.as_a_file(), told.now).await.unwrap_err();
    assert!(told.store.imported_codes().await.unwrap().is_empty(), "none of it");
    STOPS.end(&told.database());
    told.store.apply_catalogue(told.as_a_file(), told.now).await.unwrap();
    told.is_as_aws_holds_it().await;
}

#[tokio::test]
async fn who_waits_for_an_import_that_has_happened_is_let_go_at_the_next_start() {
    let mut told = told_before().await;
    // The product stands, and nobody was let go.
    let keeps = Trigger {
        at: "AFTER UPDATE OF due_at_ms",
        when: "new.due_at_ms IS NOT NULL",
        does: Some("UPDATE buyers SET due_at_ms = NULL WHERE id = new.id"),
        ..STOPS
    };
    keeps.set(&told.database());
    told.store.import_product(import(&told.product), told.now).await.unwrap();
    keeps.end(&told.database());
    assert_eq!(told.store.next_due_buyer().await.unwrap(), None);
    told.store.release_waiting(told.now).await.unwrap();
    told.is_as_aws_holds_it().await;
    told.store.release_waiting(told.now).await.unwrap();
    assert_eq!(told.store.next_due_buyer().await.unwrap(), None, "nobody waits any more");
}
