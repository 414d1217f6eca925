//! Tests of `ResolveCustomer`.

use serde_json::{Value, json};

use super::super::{Action, ApiError, Market, Order, Protocol, Service};
use super::{BUYER, act, at, context, order};

fn resolve(market: &mut Market, now: &str, token: &str) -> Result<Value, ApiError> {
    let input = json!({"RegistrationToken": token});
    market.call(&context(at(now)), Service::Metering, "ResolveCustomer", &input)
}

#[test]
fn a_token_resolves_for_four_hours() {
    for protocol in [Protocol::Legacy, Protocol::Licensed] {
        let mut market = Market::with_demo_catalog(7);
        let order = order(&market, protocol, false);
        let bought = act(&mut market, "2026-05-01T10:00:00Z", Action::Subscribe(order));
        let token = bought.registration_token.clone().expect("a token");
        let first = resolve(&mut market, "2026-05-01T10:00:00Z", &token).expect("valid");
        let again = resolve(&mut market, "2026-05-01T13:59:59Z", &token).expect("valid");
        assert_eq!(first, again);
        assert_eq!(
            first,
            json!({
                "CustomerIdentifier": bought.customer_identifier.unwrap_or_default(),
                "CustomerAWSAccountId": BUYER,
                "ProductCode": bought.product_code,
                "LicenseArn": bought.license_arn,
                "Metadata": {"AgreementId": bought.agreement_id},
            })
        );
        for (now, token, expected) in [
            ("2026-05-01T14:00:00Z", token.as_str(), "ExpiredTokenException"),
            ("2026-05-01T10:00:00Z", "no such token", "InvalidTokenException"),
            ("2026-05-01T10:00:00Z", "", "InvalidTokenException"),
        ] {
            let refused = resolve(&mut market, now, token).expect_err("refused");
            assert_eq!(refused.code, expected);
        }
        let order = Order::of(bought.product_code);
        let fresh = act(&mut market, "2026-05-01T15:00:00Z", Action::Register(order));
        let token = fresh.registration_token.expect("a token");
        assert_eq!(resolve(&mut market, "2026-05-01T15:00:00Z", &token).expect("valid"), first);
    }
}
