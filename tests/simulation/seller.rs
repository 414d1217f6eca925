//! What the seller does: buyers are provisioned, agreements searched, the older product is moved to licences.

use marketd::domain::{AccountId, AwsIds, ClockHour, CustomerId, CustomerIdentifier, ProductId};
use marketd::sandbox::market::{Options, Product, Protocol};
use marketd::store::{LicensingError, ProvisionCustomer, ProvisionError};
use serde_json::Value;

use super::support::listings::{self, Page, sweep_agreements};
use super::{BUYERS, Simulation, Step, account};

impl Simulation {
    pub(super) async fn seller_acts(&mut self) -> Step {
        match self.rng.u32(0..5) {
            0..2 => {
                let number = self.rng.usize(0..BUYERS);
                self.claim(number).await
            }
            2 | 3 => {
                let product = self.rng.choice(&self.products).unwrap().clone();
                self.search(&product).await
            }
            _ => self.set_the_move().await,
        }
    }

    /// The seller provisions a buyer whom AWS has told of already, or will.
    pub(super) async fn claim(&mut self, number: usize) -> Step {
        let identifier = {
            let market = self.aws.market.lock().unwrap();
            market.buyer(&account(number)).map(|it| it.customer_identifier.clone())
        };
        let provision = ProvisionCustomer {
            id: CustomerId::new(format!("seller-{number}")),
            name: None,
            email: None,
            metadata: None,
            aws: AwsIds {
                account_id: Some(AccountId::new(account(number))),
                customer_identifier: identifier.map(CustomerIdentifier::new),
                license_arn: None,
            },
        };
        match self.store.provision_customer(provision, self.clock.now()).await {
            Err(ProvisionError::Store(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Lists a product's agreements as a sweep does, while buyers go on; here and there AWS does not take a filter or
    /// an order.
    pub(super) async fn search(&mut self, product: &Product) -> Step {
        let refused = match self.rng.u32(0..10) {
            0 => vec!["AfterLastUpdateTime".to_owned()],
            1 => vec!["LastUpdateTime".to_owned()],
            _ => Vec::new(),
        };
        self.refuse_searches(refused);
        let (store, clock, size) = (self.store.clone(), self.clock.clone(), self.rng.usize(1..4));
        let swept =
            sweep_agreements(&store, product, &clock, size, |input| self.answer(input)).await;
        self.refuse_searches(Vec::new());
        swept?;
        self.look().await
    }

    fn refuse_searches(&self, unsupported_searches: Vec<String>) {
        let mut market = self.aws.market.lock().unwrap();
        let options = Options { unsupported_searches, ..market.options().clone() };
        market.set_options(options);
    }

    fn answer(&mut self, input: &Value) -> Page {
        if !self.heals && self.rng.u32(0..4) == 0 {
            self.buyer_acts();
        }
        listings::search(&mut self.aws.market.lock().unwrap(), self.aws.clock.now(), input)
    }

    fn legacy(&self) -> &Product {
        self.products.iter().find(|it| it.protocol == Protocol::Legacy).unwrap()
    }

    /// Until AWS gives the first name to a buyer of the older product, it may be one that is sold by licence.
    pub(super) async fn note_who_has_no_name(&mut self) {
        let product = ProductId::new(&self.legacy().entity_id);
        let metered = self.records().await.into_iter().filter(|it| it.product_id == product);
        let accounts = metered.filter_map(|it| it.sent_as?.account_id);
        self.nameless.extend(accounts.map(|it| it.to_string()));
    }

    /// Some hour to come is named as that of the move, or another one than before.
    async fn set_the_move(&mut self) -> Step {
        let first = ClockHour::of(self.clock.now()).next().number();
        let from = ClockHour::from_number(first + self.rng.i64(0..4));
        let product = ProductId::new(&self.legacy().entity_id);
        // What the seller has set is set again after a restore, before anything else; here no older backup is put back.
        self.backup = None;
        match self.store.set_licensed_from(product, Some(from), self.clock.now()).await {
            Err(LicensingError::Store(error)) => Err(error),
            // Too late: it has moved.
            _ => Ok(()),
        }
    }

    /// AWS moves the product in the hour that the seller has set.
    pub(super) async fn aws_moves_the_product(&mut self) {
        let legacy = self.legacy();
        let product = self.store.product(ProductId::new(&legacy.entity_id)).await.unwrap().unwrap();
        if product.licensed_from.is_some_and(|from| from.start() <= self.aws.clock.now()) {
            self.aws.market.lock().unwrap().move_to_licenses(&legacy.product_code);
        }
    }
}
