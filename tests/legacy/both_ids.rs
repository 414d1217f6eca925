//! A buyer of an older product and a newer one, known by both ids: each sale is held and metered by its own.

use marketd::domain::AwsIds;
use marketd::domain::Registration;
use marketd::domain::{AccountId, BuyerKey, BuyerRef, CustomerId, CustomerIdentifier, ProductCode};
use marketd::sandbox::market::{Action, Options, Order, Product};
use marketd::store::{LicensingError, RegistrationDetails};

use super::support::books::{Books, account};
use super::support::import;
use super::support::seller::look_at_everybody_due;
use super::{held, live, provision};

/// Books of a product that is sold by licence, and of one that is sold by name and was bought first.
async fn books_of_both(newer: &str, names_licensed_buyers: bool) -> (Books, Product) {
    let mut books = Books::open(41, newer, 0).await;
    let older = {
        let mut market = books.aws.market.lock().unwrap();
        let options = Options { names_licensed_buyers, ..market.options().clone() };
        market.set_options(options);
        market.products().find(|it| it.title == "Acme Classic").unwrap().clone()
    };
    books.store.import_product(import(&older), books.now()).await.unwrap();
    let order = Order::of(&older.product_code).with("pro", 1);
    books.act(&account(0), Action::Purchase(order));
    books.hear().await;
    (books, older)
}

fn both_ids(books: &Books) -> AwsIds {
    let market = books.aws.market.lock().unwrap();
    let identifier = &market.buyer(&account(0)).unwrap().customer_identifier;
    AwsIds {
        account_id: Some(AccountId::new(account(0))),
        customer_identifier: Some(CustomerIdentifier::new(identifier)),
        license_arn: None,
    }
}

/// How the seller comes to know both ids.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Provisioned,
    Registered,
}

async fn know(books: &Books, older: &Product, how: Known) -> CustomerId {
    let both = both_ids(books);
    match how {
        Known::Provisioned => provision(books, "acme", both).await,
        Known::Registered => {
            let told = Registration {
                product_code: ProductCode::new(&older.product_code),
                customer_identifier: both.customer_identifier,
                account_id: both.account_id,
                license_arn: None,
                agreement_id: None,
            };
            let said = RegistrationDetails {
                customer_id: Some(CustomerId::new("acme")),
                ..RegistrationDetails::default()
            };
            books.store.register_buyer(told, said, books.now()).await.unwrap().id
        }
    }
}

fn buy(books: &Books) {
    let order = books.order();
    let action = if books.product.pricing.has_contract() {
        Action::Purchase(order.with("pro", 1))
    } else {
        Action::Subscribe(order)
    };
    books.act(&account(0), action);
}

/// Asks AWS about the newer product by the legacy name, before anything else is heard.
async fn look_by_name(books: &Books) {
    let buyer = BuyerRef::CustomerIdentifier(both_ids(books).customer_identifier.unwrap());
    let product_code = ProductCode::new(&books.product.product_code);
    let now = books.now();
    books.store.mark_buyer_dirty(BuyerKey { product_code, buyer }, now).await.unwrap();
    let mut market = std::mem::replace(
        &mut *books.aws.market.lock().unwrap(),
        marketd::sandbox::market::Market::new(0),
    );
    market.tick(now);
    look_at_everybody_due(&books.store, &mut market, now).await.unwrap();
    *books.aws.market.lock().unwrap() = market;
}

/// Reports usage of the newer product, and lets its hour be billed.
async fn bill(books: &mut Books, customer: &CustomerId) {
    let product = books.product.clone();
    let metered = product.dimensions.iter().find(|it| product.meters(&it.key)).unwrap();
    books.report(customer, &metered.key, "500", books.now()).await;
    books.pass_minutes(120);
    books.run_pass().await;
}

#[tokio::test]
async fn a_newer_products_usage_goes_out_by_licence_by_whichever_id_its_rows_were_found() {
    for newer in ["Acme Insight", "Acme Stream"] {
        for named in [false, true] {
            for how in [Known::Provisioned, Known::Registered] {
                for bought_first in [false, true] {
                    let case = format!("{newer}, {named}, {how:?}, {bought_first}");
                    let (mut books, older) = books_of_both(newer, named).await;
                    if bought_first {
                        buy(&books);
                        books.hear().await;
                    }
                    let customer = know(&books, &older, how).await;
                    books.hear().await;
                    if !bought_first {
                        buy(&books);
                        books.hear().await;
                    }
                    look_by_name(&books).await;
                    books.pass_minutes(2);
                    bill(&mut books, &customer).await;
                    let billed = books.billed();
                    assert_eq!(billed.len(), 1, "{case}: {billed:?} {:?}", books.shown().await);
                    assert!(billed[0].ends_with("500 licence"), "{case}: {billed:?}");
                    assert_eq!(live(&books).await, ["licence active", "name active"], "{case}");
                    books.balance().await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_row_that_repeats_the_legacy_name_is_held_by_licence_once_events_tell_of_it() {
    let (mut books, older) = books_of_both("Acme Insight", true).await;
    let customer = know(&books, &older, Known::Provisioned).await;
    books.hear().await;
    buy(&books);
    // Nothing has told yet how this product is sold.
    look_by_name(&books).await;
    assert_eq!(live(&books).await, ["name active", "name active"]);
    let before = held(&books).await;
    books.pass_minutes(2);
    books.hear().await;
    look_by_name(&books).await;
    assert_eq!(live(&books).await, ["licence active", "name active"], "and never both at once");
    let gone_over = held(&books)
        .await
        .into_iter()
        .find(|it| it.terms.ended_at.is_some() && before.iter().any(|held| held.id == it.id));
    let after = gone_over.expect("what was held by name ended").terms.renewed_by;
    assert!(after.is_some_and(|holder| !holder.is_legacy()), "it went on, and nobody left");
    books.pass_minutes(60);
    bill(&mut books, &customer).await;
    assert_eq!(books.billed(), ["10 api_calls 500 licence"]);
}

#[tokio::test]
async fn a_sign_up_tells_for_good_how_a_product_is_sold() {
    // A buyer of the older usage product signed up, long ago or just now, and no message ever came.
    let books = Books::open(42, "Acme Meter", 0).await;
    let told = Registration {
        product_code: ProductCode::new(&books.product.product_code),
        customer_identifier: Some(CustomerIdentifier::new("X-other")),
        account_id: None,
        license_arn: None,
        agreement_id: None,
    };
    books.store.register_buyer(told, RegistrationDetails::default(), books.now()).await.unwrap();
    books.act(&account(1), Action::Subscribe(books.order()));
    drop(books.aws.market.lock().unwrap().take_outgoing(books.now()));
    super::search(&books).await;
    assert_eq!(live(&books).await, <[&str; 0]>::default(), "it may be held by the other name");
}

#[tokio::test]
async fn only_a_product_that_is_sold_by_name_can_move_to_licences() {
    for (title, sold_by_licence) in [
        ("Acme Stream", true),
        ("Acme Insight", true),
        ("Acme Meter", false),
        ("Acme Classic", false),
    ] {
        let books = Books::open(43, title, 1).await;
        let from = Some(marketd::domain::ClockHour::of(books.now()).next().next());
        let set = books.store.set_licensed_from(books.product_id(), from, books.now()).await;
        match set {
            Err(LicensingError::SoldByLicense(_)) => assert!(sold_by_licence, "{title}"),
            set => assert!(set.is_ok() && !sold_by_licence, "{title}: {set:?}"),
        }
    }
}
