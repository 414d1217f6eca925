//! `GetEntitlements` of the entitlement service.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::input::{decode_token, encode_token, epoch, page_size, text};
use super::{ApiError, CallContext, Market, Product, Protocol};

const PAGE: usize = 25;

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("InvalidParameterException", message)
}

/// The filter of a call: values are united within a key, keys are intersected.
#[derive(Debug, Default)]
struct Filter {
    customers: Option<BTreeSet<String>>,
    accounts: Option<BTreeSet<String>>,
    dimensions: Option<BTreeSet<String>>,
    licenses: Option<BTreeSet<String>>,
}

impl Filter {
    fn read(input: &Value) -> Result<Self, ApiError> {
        let mut filter = Self::default();
        let keys: BTreeMap<String, Vec<String>> = match input.get("Filter") {
            None | Some(Value::Null) => BTreeMap::new(),
            Some(given) => serde_json::from_value(given.clone())
                .map_err(|error| invalid(format!("Filter is malformed: {error}")))?,
        };
        for (key, values) in keys {
            if values.is_empty() {
                return Err(invalid(format!("Filter {key} has no values")));
            }
            let values = Some(values.into_iter().collect());
            match key.as_str() {
                "CUSTOMER_IDENTIFIER" => filter.customers = values,
                "CUSTOMER_AWS_ACCOUNT_ID" => filter.accounts = values,
                "DIMENSION" => filter.dimensions = values,
                "LICENSE_ARN" => filter.licenses = values,
                other => return Err(invalid(format!("Filter {other} is not supported"))),
            }
        }
        if filter.customers.is_some() && filter.accounts.is_some() {
            return Err(invalid(
                "CUSTOMER_IDENTIFIER and CUSTOMER_AWS_ACCOUNT_ID are mutually exclusive",
            ));
        }
        Ok(filter)
    }
}

/// The position at which the next page begins: an agreement and one of its dimensions.
type Position = (usize, String);

fn read_token(input: &Value) -> Result<Option<Position>, ApiError> {
    let Some(token) = text(input, "NextToken") else {
        return Ok(None);
    };
    let position = decode_token(token).and_then(|position| {
        let (agreement, dimension) = position.split_once(' ')?;
        Some((agreement.parse().ok()?, dimension.to_owned()))
    });
    position.map(Some).ok_or_else(|| invalid("NextToken is invalid"))
}

fn write_token((agreement, dimension): &Position) -> Value {
    encode_token(&format!("{agreement} {dimension}")).into()
}

impl Market {
    pub(super) fn get_entitlements(
        &self,
        context: &CallContext,
        input: &Value,
    ) -> Result<Value, ApiError> {
        let code = text(input, "ProductCode").ok_or_else(|| invalid("ProductCode is required"))?;
        let page = page_size(input, "MaxResults", PAGE, invalid)?;
        let filter = Filter::read(input)?;
        let from = read_token(input)?;
        let product = self.products.get(code).ok_or_else(|| invalid("ProductCode is not yours"))?;

        if self.options.sparse_pages && from.is_none() {
            let start = write_token(&(0, String::new()));
            return Ok(json!({"Entitlements": [], "NextToken": start}));
        }
        let from = from.unwrap_or_default();
        let mut rows = Vec::new();
        let mut next = None;
        'agreements: for position in self.candidates(product, &filter, from.0) {
            let agreement = self.agreements.get(position);
            if !self.is_visible(context, product, &filter, position) {
                continue;
            }
            for (dimension, quantity) in &agreement.dimensions {
                if position == from.0 && *dimension < from.1
                    || filter.dimensions.as_ref().is_some_and(|it| !it.contains(dimension))
                {
                    continue;
                }
                if rows.len() == page {
                    next = Some((position, dimension.clone()));
                    break 'agreements;
                }
                rows.push(self.entitlement(product, position, dimension, *quantity));
            }
        }
        if rows.is_empty() && self.options.bare_empty {
            return Ok(json!({}));
        }
        let mut answer = json!({"Entitlements": rows});
        if let Some(next) = next {
            answer["NextToken"] = write_token(&next);
        }
        Ok(answer)
    }

    /// Returns the agreements that can hold rows, from a position on, by the narrowest index.
    fn candidates(
        &self,
        product: &Product,
        filter: &Filter,
        from: usize,
    ) -> Box<dyn Iterator<Item = usize> + '_> {
        let accounts = filter.accounts.as_ref().map(|it| it.iter().collect::<Vec<_>>());
        let accounts = accounts.or_else(|| {
            let customers = filter.customers.as_ref()?;
            Some(customers.iter().filter_map(|it| self.customer_accounts.get(it)).collect())
        });
        let mut found: Vec<usize> = if let Some(licenses) = &filter.licenses {
            licenses.iter().flat_map(|it| self.agreements.of_license(it)).copied().collect()
        } else if let Some(accounts) = accounts {
            accounts.into_iter().flat_map(|it| self.agreements.of_buyer(it)).copied().collect()
        } else {
            return Box::new(self.agreements.entitled_from(&product.product_code, from));
        };
        found.retain(|position| *position >= from);
        found.sort_unstable();
        Box::new(found.into_iter())
    }

    fn is_visible(
        &self,
        context: &CallContext,
        product: &Product,
        filter: &Filter,
        position: usize,
    ) -> bool {
        let agreement = self.agreements.get(position);
        let account_matches =
            filter.accounts.as_ref().is_none_or(|it| it.contains(&agreement.account_id));
        // A buyer who has the name from an older product is found by it, whatever else the product is sold by.
        let customer_matches = filter
            .customers
            .as_ref()
            .is_none_or(|it| it.contains(&self.buyers[&agreement.account_id].customer_identifier));
        self.agreements.has_rows(position)
            && agreement.product_code == product.product_code
            && agreement.entitled_from <= context.now
            && account_matches
            && customer_matches
    }

    fn entitlement(
        &self,
        product: &Product,
        position: usize,
        dimension: &str,
        quantity: u64,
    ) -> Value {
        let agreement = self.agreements.get(position);
        let mut row = json!({
            "ProductCode": product.product_code,
            "Dimension": dimension,
            "CustomerAWSAccountId": agreement.account_id,
            "LicenseArn": agreement.license_arn,
            "Value": {"IntegerValue": quantity},
        });
        if product.protocol == Protocol::Legacy || self.options.names_licensed_buyers {
            let buyer = &self.buyers[&agreement.account_id];
            row["CustomerIdentifier"] = buyer.customer_identifier.as_str().into();
        }
        if let Some(ends_at) = agreement.ends_at {
            row["ExpirationDate"] = epoch(ends_at);
        }
        row
    }
}
