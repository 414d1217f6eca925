//! Every field of every event missing, one at a time: nobody is ended or doubled by it, and once AWS is asked all is as
//! AWS holds it.

use std::collections::BTreeMap;

use super::support::database::open_store;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use marketd::domain::agreement::LicenseState;
use marketd::domain::{Id, LicenseArn};
use marketd::sandbox::market::{Action, Market, Order, Product};
use marketd::store::{AgreementObservation, Store};
use serde_json::Value;

use super::support::seller::{Message, look_at_everybody_due, patience, seen};
use super::support::{held_by_aws, import};
use super::{START, held_by_us};

const BUYER: &str = "500000000001";

/// What happens.
struct Story {
    name: &'static str,
    title: &'static str,
    actions: fn(&Product) -> Vec<Action>,
}

fn order(product: &Product) -> Order {
    let order = Order::of(&product.product_code);
    if product.pricing.has_contract() { order.with("pro", 3) } else { order }
}

fn buy(product: &Product) -> Action {
    let order = order(product);
    if product.pricing.has_contract() { Action::Purchase(order) } else { Action::Subscribe(order) }
}

fn renewal(product: &Product, new_license: bool, names_previous: bool) -> Vec<Action> {
    let renewed =
        Order { new_license, previous_agreement_id: Some(names_previous), ..order(product) };
    vec![buy(product), Action::Renew(renewed)]
}

const STORIES: [Story; 9] = [
    Story { name: "renewed", title: "Acme Stream", actions: |it| renewal(it, true, true) },
    Story {
        name: "renewed, nameless",
        title: "Acme Stream",
        actions: |it| renewal(it, true, false),
    },
    Story {
        name: "keeps its licence",
        title: "Acme Stream",
        actions: |it| renewal(it, false, true),
    },
    Story { name: "renewed", title: "Acme Insight", actions: |it| renewal(it, true, true) },
    Story {
        name: "renewed, nameless",
        title: "Acme Insight",
        actions: |it| renewal(it, true, false),
    },
    Story { name: "two side by side", title: "Acme Insight", actions: |it| vec![buy(it), buy(it)] },
    Story {
        name: "upgraded",
        title: "Acme Insight",
        actions: |it| {
            let more = Order::of(&it.product_code).with("enterprise", 5);
            vec![buy(it), Action::Upgrade(more)]
        },
    },
    Story { name: "bought", title: "Acme Meter", actions: |it| vec![buy(it)] },
    Story {
        name: "upgraded",
        title: "Acme Classic",
        actions: |it| {
            let more = Order::of(&it.product_code).with("enterprise", 1);
            vec![buy(it), Action::Upgrade(more)]
        },
    },
];

/// A place within a document; what follows `Message` is within its text.
type Path = Vec<String>;

fn paths(value: &Value, to: &Path, found: &mut Vec<Path>) {
    let Value::Object(object) = value else { return };
    for (key, inner) in object {
        let path: Path = to.iter().cloned().chain([key.clone()]).collect();
        found.push(path.clone());
        match inner.as_str().filter(|_| key == "Message") {
            Some(text) => paths(&serde_json::from_str(text).unwrap(), &path, found),
            None => paths(inner, &path, found),
        }
    }
}

fn remove(value: &mut Value, path: &[String], as_null: bool) {
    let (key, rest) = path.split_first().unwrap();
    let object = value.as_object_mut().unwrap();
    if rest.is_empty() {
        if as_null {
            object.insert(key.clone(), Value::Null);
        } else {
            object.remove(key);
        }
        return;
    }
    let inner = &mut object[key];
    if let Some(text) = inner.as_str() {
        let mut document: Value = serde_json::from_str(text).unwrap();
        remove(&mut document, rest, as_null);
        *inner = document.to_string().into();
    } else {
        remove(inner, rest, as_null);
    }
}

/// A field of one of the messages, counted as they come.
struct Lacks<'a> {
    which: usize,
    path: &'a Path,
    as_null: bool,
}

/// A seller who hears and looks as it happens.
struct Hearing {
    market: Market,
    product: Product,
    folder: tempfile::TempDir,
    store: Store,
    now: Timestamp,
    /// The messages as AWS sent them.
    sent: Vec<Message>,
}

impl Hearing {
    async fn of(story: &Story) -> Self {
        let market = Market::with_demo_catalog(5);
        let product = market.products().find(|it| it.title == story.title).unwrap().clone();
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now: Timestamp = START.parse().unwrap();
        store.import_product(import(&product), now).await.unwrap();
        Self { market, product, folder, store, now, sent: Vec::new() }
    }

    /// Lets time pass, and takes in what was sent meanwhile.
    async fn pass(&mut self, time: SignedDuration, lacks: Option<&Lacks<'_>>) {
        self.now += time;
        for sent in self.market.take_outgoing(self.now) {
            let mut message = Message::of(&sent, self.sent.len());
            self.sent.push(message.clone());
            if let Some(Lacks { path, as_null, .. }) =
                lacks.filter(|it| it.which + 1 == self.sent.len())
            {
                let mut document: Value = serde_json::from_str(&message.body).unwrap();
                remove(&mut document, path, *as_null);
                message.body = document.to_string();
            }
            self.store.record_notifications(vec![message.incoming()], self.now).await.unwrap();
        }
        look_at_everybody_due(&self.store, &mut self.market, self.now).await.unwrap();
    }

    /// Lets the story happen. How many messages were sent of the first purchase.
    async fn live(&mut self, story: &Story, lacks: Option<&Lacks<'_>>) -> usize {
        let mut of_purchase = 0;
        for action in (story.actions)(&self.product) {
            self.market.act(self.now, BUYER, action).unwrap();
            for wait in [0, 40, 120] {
                self.pass(SignedDuration::from_secs(wait), lacks).await;
            }
            if of_purchase == 0 {
                of_purchase = self.sent.len();
            }
        }
        of_purchase
    }

    /// Asks AWS about all agreements, as a sweep does.
    async fn search(&mut self) {
        let agreements = self.market.agreements();
        let in_force = agreements.iter().filter(|it| it.is_active());
        let states: BTreeMap<LicenseArn, LicenseState> =
            in_force.map(|it| (Id::new(&it.license_arn), LicenseState::Provisioned)).collect();
        let look = AgreementObservation {
            product_code: Id::new(&self.product.product_code),
            observed_at: self.now,
            agreements: agreements.iter().map(seen).collect(),
            states,
        };
        self.store.record_agreements(look, self.now).await.unwrap();
        for wait in [SignedDuration::ZERO, patience().second_look, SignedDuration::from_hours(3)] {
            self.pass(wait, None).await;
        }
    }
}

async fn check(story: &Story, lacks: &Lacks<'_>) {
    let Lacks { which, path, .. } = lacks;
    let case = format!("{} {}, {which}: {}", story.title, story.name, path.join("."));
    let mut hearing = Hearing::of(story).await;
    let of_purchase = hearing.live(story, Some(lacks)).await;
    let held =
        async |hearing: &Hearing| (held_by_us(&hearing.store).await, held_by_aws(&hearing.market));
    let (ours, theirs) = held(&hearing).await;
    assert!(ours.len() <= theirs.len(), "{case}: {ours:#?} for {theirs:#?}");
    if *which >= of_purchase {
        assert!(!ours.is_empty(), "{case}: nothing for {theirs:#?}");
    }
    // Of a legacy product that is paid for as it is used no API tells.
    if story.title != "Acme Meter" {
        hearing.search().await;
        let (ours, theirs) = held(&hearing).await;
        assert_eq!(ours, theirs, "{case}, after AWS was asked");
    }
    drop(hearing.folder);
}

#[tokio::test]
async fn no_field_that_an_event_lacks_ends_or_doubles_anybody() {
    let mut checked = 0;
    for story in &STORIES {
        let mut whole = Hearing::of(story).await;
        whole.live(story, None).await;
        for (which, message) in whole.sent.iter().enumerate() {
            let mut found = Vec::new();
            paths(&serde_json::from_str(&message.body).unwrap(), &Path::new(), &mut found);
            checked += found.len();
            let lacks = found.iter().enumerate();
            let lacks = lacks.map(|(number, path)| Lacks { which, path, as_null: number % 2 == 0 });
            // Each waits for its own disk.
            futures::stream::iter(lacks)
                .for_each_concurrent(16, async |lacks| check(story, &lacks).await)
                .await;
        }
    }
    assert!(checked > 300, "{checked}");
}
