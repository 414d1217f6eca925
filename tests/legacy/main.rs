//! Buyers of a product with legacy names whom the Agreement API shows by account and licence: one sale, one form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod both_ids;
#[path = "../support/mod.rs"]
mod support;
mod two_products;

use std::collections::BTreeMap;

use marketd::domain::AwsIds;
use marketd::domain::agreement::{LicenseState, SeenAgreement};
use marketd::domain::{AccountId, CustomerId, ProductCode, Subscription};
use marketd::sandbox::market::Action;
use marketd::store::{AgreementObservation, Page, ProvisionCustomer, SubscriptionFilter};
use support::books::{Books, account};
use support::seller::{look_at_everybody_due, seen};

/// Two buyers who subscribed before anybody listened.
async fn sold_unheard() -> Books {
    let mut books = Books::open(37, "Acme Meter", 0).await;
    books.closing.zero_usage = true;
    for number in 0..2 {
        books.act(&account(number), Action::Subscribe(books.order()));
    }
    drop(books.aws.market.lock().unwrap().take_outgoing(books.now()));
    books.pass_minutes(2);
    books
}

/// Searches the agreements, and looks at whom that told of.
async fn search(books: &Books) {
    let now = books.now();
    let mut market = std::mem::replace(
        &mut *books.aws.market.lock().unwrap(),
        marketd::sandbox::market::Market::new(0),
    );
    market.tick(now);
    let agreements: Vec<SeenAgreement> = market.agreements().iter().map(seen).collect();
    let licenses = agreements.iter().flat_map(|it| it.licenses.clone());
    let states: BTreeMap<_, _> = licenses.map(|arn| (arn, LicenseState::Provisioned)).collect();
    let look = AgreementObservation {
        product_code: ProductCode::new(&books.product.product_code),
        observed_at: now,
        agreements,
        states,
    };
    books.store.record_agreements(look, now).await.unwrap();
    look_at_everybody_due(&books.store, &mut market, now).await.unwrap();
    *books.aws.market.lock().unwrap() = market;
}

async fn held(books: &Books) -> Vec<Subscription> {
    let page = Page { after: None, limit: 100 };
    books.store.subscriptions(SubscriptionFilter::default(), page).await.unwrap()
}

/// Who holds something that lives, by kind of name and status.
async fn live(books: &Books) -> Vec<String> {
    let held = held(books).await.into_iter().filter(|it| it.terms.ended_at.is_none());
    let mut shown: Vec<String> = held
        .map(|it| {
            let legacy = it.terms.holder.as_ref().unwrap().is_legacy();
            let form = if legacy { "name" } else { "licence" };
            format!("{form} {}", it.terms.status.as_str())
        })
        .collect();
    shown.sort();
    shown
}

/// The first buyer accepts another offer, the second leaves.
async fn tell(books: &mut Books) {
    books.act(&account(1), Action::Cancel(books.order()));
    books.hear().await;
}

async fn by_account(books: &Books, id: &str, number: usize) -> CustomerId {
    let aws = AwsIds { account_id: Some(AccountId::new(account(number))), ..AwsIds::default() };
    provision(books, id, aws).await
}

async fn provision(books: &Books, id: &str, aws: AwsIds) -> CustomerId {
    let id = CustomerId::new(id);
    let request =
        ProvisionCustomer { id: id.clone(), name: None, email: None, aws, metadata: None };
    books.store.provision_customer(request, books.now()).await.unwrap();
    id
}

#[tokio::test]
async fn what_the_api_shows_of_legacy_buyers_is_no_second_sale_whatever_is_told_first() {
    let mut searched_first = sold_unheard().await;
    search(&searched_first).await;
    assert_eq!(live(&searched_first).await, ["licence active", "licence active"]);
    tell(&mut searched_first).await;
    let mut told_first = sold_unheard().await;
    tell(&mut told_first).await;
    search(&told_first).await;
    assert_eq!(live(&searched_first).await, ["name ending"], "who left, as AWS calls them");
    assert_eq!(live(&told_first).await, live(&searched_first).await);
}

#[tokio::test]
async fn a_buyer_whom_the_seller_knows_by_account_keeps_what_the_account_bought() {
    for searched_first in [true, false] {
        let mut books = sold_unheard().await;
        by_account(&books, "acme", 0).await;
        if searched_first {
            search(&books).await;
            tell(&mut books).await;
        } else {
            tell(&mut books).await;
            search(&books).await;
        }
        books.hear().await;
        assert_eq!(live(&books).await, ["licence active", "name ending"], "{searched_first}");
    }
}

#[tokio::test]
async fn no_hour_is_metered_in_both_forms_though_nobody_told_that_two_are_one() {
    let mut books = sold_unheard().await;
    search(&books).await;
    let customer = by_account(&books, "acme", 1).await;
    books.report(&customer, "gb", "5", books.now()).await;
    tell(&mut books).await;
    books.report(&customer, "gb", "7", books.now()).await;
    for _ in 0..4 {
        books.pass_minutes(30);
        books.hear().await;
        books.run_pass().await;
    }
    assert!(books.billed().iter().all(|line| line.ends_with("product")), "{:?}", books.billed());
    let shown = books.shown().await;
    assert!(shown.contains(&"09 gb 12 open".to_owned()), "{shown:?}");
    books.balance().await;

    // The seller knows this buyer by account: what the account bought is theirs, until AWS says otherwise.
    assert!(live(&books).await.contains(&"licence active".to_owned()));

    // AWS takes it no more, and whom it belongs to was not told: a person decides.
    books.pass_minutes(24 * 60);
    books.run_pass().await;
    let shown = books.shown().await;
    assert!(shown.contains(&"09 gb 12 parked legacy_name_unknown".to_owned()), "{shown:?}");
    books.balance().await;
}

#[tokio::test]
async fn a_legacy_buyer_whom_the_seller_knows_by_both_names_keeps_what_the_api_shows() {
    let mut books = sold_unheard().await;
    search(&books).await;
    let identifier =
        books.aws.market.lock().unwrap().buyer(&account(0)).unwrap().customer_identifier.clone();
    let both = AwsIds {
        account_id: Some(AccountId::new(account(0))),
        customer_identifier: Some(marketd::domain::CustomerIdentifier::new(identifier)),
        ..AwsIds::default()
    };
    let customer = provision(&books, "acme", both).await;
    books.hear().await;
    books.report(&customer, "gb", "5", books.now()).await;
    tell(&mut books).await;
    assert_eq!(live(&books).await, ["name active", "name ending"]);
    books.report(&customer, "gb", "7", books.now()).await;
    for _ in 0..4 {
        books.pass_minutes(40);
        books.run_pass().await;
    }
    let billed = books.billed();
    let gb = billed.iter().filter(|line| line.contains(" gb ") && !line.contains(" gb 0 "));
    assert_eq!(gb.collect::<Vec<_>>(), ["09 gb 5 licence", "10 gb 7 product"]);
    assert!(!billed.iter().any(|line| line.ends_with("TWICE")), "{billed:?}");
}
