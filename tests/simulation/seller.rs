//! What the seller does: buyers are provisioned, agreements searched, the older product is moved to licences.

use std::collections::{BTreeMap, BTreeSet};

use marketd::domain::agreement::{LicenseState, SeenAgreement};
use marketd::domain::{
    AccountId, ClockHour, CustomerId, CustomerIdentifier, LicenseArn, ProductCode, ProductId,
};
use marketd::sandbox::market::{Agreement, LicenseState as AwsLicenseState, Product, Protocol};
use marketd::store::{AgreementLook, AwsIds, LicensingError, ProvisionCustomer, ProvisionError};

use super::support::seller::seen;
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

    /// Asks the Agreement API as a sweep does: for what is in force, and for what we take to be.
    pub(super) async fn search(&mut self, product: &Product) -> Step {
        let product_code = ProductCode::new(&product.product_code);
        let live = self.store.live_licenses(product_code.clone()).await?;
        let sold: Vec<Agreement> = {
            let mut market = self.aws.market.lock().unwrap();
            market.tick(self.aws.clock.now());
            let all = market.agreements().iter();
            all.filter(|it| it.product_code == product.product_code).cloned().collect()
        };
        let active: BTreeSet<&str> =
            sold.iter().filter(|it| it.is_active()).map(|it| it.license_arn.as_str()).collect();
        let is_missing = |arn: &str| live.contains(&LicenseArn::new(arn)) && !active.contains(arn);
        let found = sold.iter().filter(|it| it.is_active() || is_missing(&it.license_arn));
        let agreements: Vec<SeenAgreement> = found.map(seen).collect();
        let mut states = BTreeMap::new();
        for id in self.store.unconfirmed_licenses(&agreements).await? {
            let of = sold.iter().find(|it| it.agreement_id == id.as_str()).unwrap();
            states.insert(LicenseArn::new(&of.license_arn), state(of.license_state));
        }
        let now = self.clock.now();
        let look = AgreementLook { product_code, observed_at: now, agreements, states };
        self.store.record_agreements(look, now).await?;
        self.look().await
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

const fn state(of: AwsLicenseState) -> LicenseState {
    match of {
        AwsLicenseState::Pending => LicenseState::Pending,
        AwsLicenseState::Provisioned => LicenseState::Provisioned,
        AwsLicenseState::Failed => LicenseState::Failed,
        AwsLicenseState::Deprovisioned => LicenseState::Deprovisioned,
    }
}
