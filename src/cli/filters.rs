//! Filters that several lists share, as options and as the API's query parameters.

use clap::Args;

/// A query parameter of the API: its name, and its value where one was given.
pub(super) type Parameter = (&'static str, Option<String>);

/// What was bought, its status, and where.
#[derive(Debug, Args)]
pub(super) struct Bought {
    /// Only those of this product.
    #[arg(long)]
    product: Option<String>,
    /// Only those of this plan.
    #[arg(long)]
    plan: Option<String>,
    /// Only those in this status.
    #[arg(long)]
    status: Option<String>,
    /// Only those from this source.
    #[arg(long, value_parser = ["aws", "direct"])]
    source: Option<String>,
}

impl Bought {
    /// Returns the API's parameters, after others.
    pub(super) fn after<const N: usize>(self, others: [Parameter; N]) -> Vec<Parameter> {
        let own = [
            ("product_id", self.product),
            ("plan_id", self.plan),
            ("status", self.status),
            ("source", self.source),
        ];
        others.into_iter().chain(own).collect()
    }
}

/// The product and the customer of records.
#[derive(Debug, Args)]
pub(super) struct ProductAndCustomer {
    /// Only records of this product.
    #[arg(long)]
    product: Option<String>,
    /// Only records of this customer.
    #[arg(long)]
    customer: Option<String>,
}

impl ProductAndCustomer {
    /// Returns the API's parameters, after others.
    pub(super) fn after<const N: usize>(self, others: [Parameter; N]) -> Vec<Parameter> {
        let own = [("product_id", self.product), ("customer_id", self.customer)];
        others.into_iter().chain(own).collect()
    }
}
