//! Registration tokens and `ResolveCustomer`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::input::text;
use super::{ActionError, ApiError, CallContext, Market, Protocol};

/// The time for which a token resolves.
const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(4);

/// The buyer and product that a registration token stands for.
#[derive(Debug, Clone)]
pub(super) struct Registration {
    account_id: String,
    product_code: String,
    agreement_id: Option<String>,
    issued_at: Timestamp,
}

impl Market {
    /// Makes the token that AWS posts with the buyer's browser to the fulfilment URL.
    pub(super) fn issue_token(
        &mut self,
        account_id: &str,
        product_code: &str,
        agreement_id: Option<String>,
        now: Timestamp,
    ) -> Result<String, ActionError> {
        let agreement_id = match agreement_id {
            Some(id) => {
                let known = self.agreements.find(&id).map(|at| self.agreements.get(at));
                if known.is_none_or(|it| it.account_id != account_id) {
                    return Err(ActionError::UnknownAgreement { agreement: id });
                }
                Some(id)
            }
            None => self
                .agreements
                .of_buyer_and_product(account_id, product_code)
                .next_back()
                .map(|position| self.agreements.get(position).agreement_id.clone()),
        };
        let token = self.ids.registration_token();
        let registration = Registration {
            account_id: account_id.to_owned(),
            product_code: product_code.to_owned(),
            agreement_id,
            issued_at: now,
        };
        self.registrations.insert(token.clone(), registration);
        Ok(token)
    }

    pub(super) fn resolve_customer(
        &self,
        context: &CallContext,
        input: &Value,
    ) -> Result<Value, ApiError> {
        let token = text(input, "RegistrationToken").ok_or_else(|| {
            ApiError::bad_request("InvalidTokenException", "Registration token is invalid.")
        })?;
        let registration = self.registrations.get(token).ok_or_else(|| {
            ApiError::bad_request("InvalidTokenException", "Registration token is invalid.")
        })?;
        if context.now.duration_since(registration.issued_at) >= TOKEN_LIFETIME {
            return Err(ApiError::bad_request(
                "ExpiredTokenException",
                "The submitted registration token has expired.",
            ));
        }
        let product = &self.products[&registration.product_code];
        let identifier = match product.protocol {
            Protocol::Legacy => self.buyers[&registration.account_id].customer_identifier.as_str(),
            Protocol::Licensed => "",
        };
        let mut answer = json!({
            "CustomerIdentifier": identifier,
            "CustomerAWSAccountId": registration.account_id,
            "ProductCode": registration.product_code,
        });
        if let Some(agreement_id) = &registration.agreement_id {
            let position =
                self.agreements.find(agreement_id).expect("agreements are never removed");
            answer["LicenseArn"] = self.agreements.get(position).license_arn.as_str().into();
            answer["Metadata"] = json!({"AgreementId": agreement_id});
        }
        Ok(answer)
    }
}
