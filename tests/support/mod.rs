//! What several suites share.
#![allow(dead_code, reason = "each suite uses a part of it")]

pub(crate) mod aws;
pub(crate) mod books;
pub(crate) mod database;
pub(crate) mod inside;
pub(crate) mod listings;
pub(crate) mod receiver;
pub(crate) mod rehearsal;
pub(crate) mod seller;
pub(crate) mod shapes;
pub(crate) mod shop;
pub(crate) mod sql;
pub(crate) mod troubled;
pub(crate) mod world;

use std::fs;
use std::path::Path;

use fastrand::Rng;
use jiff::SignedDuration;
use marketd::domain::product::Dimension;
use marketd::domain::{DimensionKey, EntityId, Holder, PlanId, ProductCode, Subscription};
use marketd::sandbox::market::{Action, Agreement, Market, Order, Product};
use marketd::store::{Address, ImportProduct, Listing, Place, ServerPlace, Store};

/// Gives a store the same key for customers' ids as every other of the suite, so that ids can be compared and what is drawn
/// by a seed is drawn alike.
pub(crate) fn share_customer_ids(database: &Path) {
    let key = match database::on_server(database) {
        Some(_) => r"'\x00'",
        None => "x'00'",
    };
    let shared = format!("UPDATE secrets SET value = {key} WHERE name = 'customer_ids'");
    assert_eq!(sql::change(database, &shared), Ok(1));
    assert_eq!(customer_ids_key(database), [0]);
}

/// Reads the key by which a database makes the ids of customers.
pub(crate) fn customer_ids_key(database: &Path) -> Vec<u8> {
    let digits = match database::on_server(database) {
        Some(_) => "encode(value, 'hex')",
        None => "hex(value)",
    };
    let read = format!("SELECT {digits} FROM secrets WHERE name = 'customer_ids'");
    let digits = sql::run(database, &read).unwrap();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Every message in the fixtures by its name.
pub(crate) fn notifications() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/notifications");
    let mut found: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// The listing of a sandbox product, as an import reads it from the catalog.
pub(crate) fn listing(product: &Product) -> Listing {
    Listing {
        owner: None,
        entity_id: EntityId::new(&product.entity_id),
        product_code: Some(ProductCode::new(&product.product_code)),
        title: product.title.clone(),
        visibility: "Public".into(),
        dimensions: product.dimensions.iter().map(dimension).collect(),
        problems: Vec::new(),
        document: serde_json::Value::Null,
    }
}

fn dimension(dimension: &marketd::sandbox::market::Dimension) -> Dimension {
    Dimension {
        key: DimensionKey::new(&dimension.key),
        name: dimension.name.clone(),
        unit: None,
        types: dimension.types.iter().map(|it| format!("{it:?}")).collect(),
        plan_id: None,
        removed_at: None,
    }
}

/// An import that maps every entitled dimension to a plan of the same name.
pub(crate) fn import(product: &Product) -> ImportProduct {
    let listing = listing(product);
    let plans = listing
        .dimensions
        .iter()
        .filter(|dimension| dimension.is_entitled())
        .map(|dimension| (dimension.key.clone(), PlanId::new(dimension.key.as_str())))
        .collect();
    ImportProduct {
        product_id: None,
        listing,
        plans,
        usage_plan: None,
        features: std::collections::BTreeMap::new(),
    }
}

const BUYERS: u64 = 120;

/// Buyers of every kind doing everything that buyers do, one step after another; at last, time for what AWS
/// has announced to come to pass.
pub(crate) fn live_a_while(
    rng: &mut Rng,
    products: &[Product],
    steps: usize,
    mut step: impl FnMut(SignedDuration, Option<(String, Action)>),
) {
    for _ in 0..steps {
        let account = format!("{:012}", 500_000_000_000 + rng.u64(0..BUYERS));
        let product = rng.choice(products).expect("there are products");
        let order = Order::of(&product.product_code);
        let tier = ["basic", "pro", "enterprise"][rng.usize(0..3)];
        let bought = order.clone().with(tier, rng.u64(1..20));
        let action = match (product.pricing.has_contract(), rng.u32(0..10)) {
            (true, 0..4) => Action::Purchase(bought),
            (true, 4..6) => Action::Upgrade(bought),
            (contract, 6) => Action::Renew(Order {
                new_license: rng.bool(),
                previous_agreement_id: Some(rng.bool()),
                ..if contract { bought } else { order }
            }),
            (true, 7) => Action::Expire(order),
            (false, 0..6) => Action::Subscribe(Order { free_trial: rng.bool(), ..order }),
            (_, 8) => Action::Fail(order),
            (_, _) => Action::Cancel(Order { immediate: rng.bool(), ..order }),
        };
        step(SignedDuration::from_secs(rng.i64(1..400)), Some((account, action)));
    }
    step(SignedDuration::from_hours(3), None);
}

/// What AWS holds now: product, holder, dimension and quantity of everything in force.
pub(crate) fn held_by_aws(market: &Market) -> Vec<String> {
    in_force(market, |agreement| {
        let product = market.product(&agreement.product_code).expect("a product of the market");
        let buyer = market.buyer(&agreement.account_id).expect("a buyer of the market");
        let legacy = product.protocol == marketd::sandbox::market::Protocol::Legacy;
        if legacy { &buyer.customer_identifier } else { &agreement.license_arn }
    })
}

/// The same, by whatever each agreement's holder is to be called.
pub(crate) fn in_force<'a>(
    market: &'a Market,
    holder: impl Fn(&'a Agreement) -> &'a str,
) -> Vec<String> {
    let mut held = Vec::new();
    for agreement in market.agreements().iter().filter(|agreement| agreement.is_active()) {
        let name = |dimension: &str, quantity: u64| {
            format!("{} {} {dimension} {quantity}", agreement.product_code, holder(agreement))
        };
        if agreement.dimensions.is_empty() {
            held.push(name("-", 0));
        }
        held.extend(agreement.dimensions.iter().map(|(key, quantity)| name(key, *quantity)));
    }
    held.sort();
    held
}

/// What lives of these subscriptions, in the same words.
pub(crate) fn live<'a>(
    subscriptions: &'a [Subscription],
    holder: impl Fn(&'a Holder) -> &'a str,
) -> Vec<String> {
    let live = subscriptions.iter().filter(|held| held.terms.status.is_live());
    let mut held: Vec<String> = live
        .map(|held| {
            let (code, terms) = (held.product_code.as_ref().expect("a product"), &held.terms);
            let holder = holder(terms.holder.as_ref().expect("a holder"));
            let dimension = terms.dimension.as_ref().map_or("-", DimensionKey::as_str);
            let quantity = terms.quantity.map_or("0".to_owned(), |quantity| quantity.to_string());
            format!("{code} {holder} {dimension} {quantity}")
        })
        .collect();
    held.sort();
    held
}
