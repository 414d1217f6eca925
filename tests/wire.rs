//! Every message that AWS Marketplace documents, in every format that it comes in, and what is made of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use jiff::Timestamp;
use marketd::domain::Id;
use marketd::domain::notification::wire::{self, Delivery, Unreadable};
use marketd::domain::notification::{AgreedEnd, AgreementNews, LicenseNews, Meaning, Notification};
use serde_json::{Map, Value, json};
use support::notifications as fixtures;

fn read(body: &str) -> Result<Notification, Unreadable> {
    let sent_at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    wire::read(Delivery { body, transport_id: "sqs-id", sent_at })
}

fn shown(found: &Result<Notification, Unreadable>) -> String {
    match found {
        Ok(it) => {
            let (format, id) = (it.format.as_str(), it.id.get(..8).unwrap_or(&it.id));
            format!("{format} {id} {} {}: {}", it.at, it.kind, meaning(&it.meaning))
        }
        Err(unreadable) => unreadable.reason.clone(),
    }
}

fn or_none<K>(id: Option<&Id<K>>) -> &str {
    id.map_or("-", Id::as_str)
}

fn meaning(meaning: &Meaning) -> String {
    match meaning {
        Meaning::Subscription(news) => {
            let trial = news.free_trial.map_or("-", |it| if it { "trial" } else { "no trial" });
            let offer = news.offer_id.as_deref().unwrap_or("-");
            format!(
                "{:?} of {} on {}, {offer}, {trial}",
                news.action, news.customer_identifier, news.product_code
            )
        }
        Meaning::EntitlementUpdated { product_code, customer_identifier } => {
            format!("look at {customer_identifier} on {product_code}")
        }
        Meaning::License(news) => license(news),
        Meaning::Agreement(news) => agreement(news),
        Meaning::Topic(news) => {
            let sends = if news.subscribed { "sends" } else { "sends no more" };
            format!("topic {} {sends}", news.topic_arn)
        }
        Meaning::Informational => "-".into(),
    }
}

fn license(news: &LicenseNews) -> String {
    format!(
        "{:?} {} on {}/{} of {} by {}",
        news.change,
        news.license_arn,
        or_none(news.product_code.as_ref()),
        or_none(news.entity_id.as_ref()),
        or_none(news.account_id.as_ref()),
        or_none(news.agreement_id.as_ref()),
    )
}

fn agreement(news: &AgreementNews) -> String {
    let time = |at: Option<Timestamp>| at.map_or("-".into(), |at| at.to_string());
    let what = news.ended.as_deref().or(news.intent.as_deref()).unwrap_or("-");
    let ended = if news.ended.is_some() { "ended " } else { "" };
    format!(
        "{ended}{what} {} after {} of {} on {}, {}, {} to {}",
        news.agreement_id,
        or_none(news.previous_agreement_id.as_ref()),
        or_none(news.account_id.as_ref()),
        or_none(news.entity_id.as_ref()),
        news.offer_id.as_deref().unwrap_or("-"),
        time(news.starts_at),
        time(news.ends_at.and_then(AgreedEnd::at)),
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, a line for each message")]
fn every_message_is_taken_for_what_it_is() {
    let lines: Vec<String> =
        fixtures().iter().map(|(name, body)| format!("{name}: {}", shown(&read(body)))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    agreement-advisory-issued-manufacturer: eventbridge 8db42bdc 2026-11-24T09:16:03Z Purchase Agreement Advisory Issued - Manufacturer: -
    agreement-advisory-resolved-manufacturer: eventbridge db04a15e 2026-11-24T09:17:03Z Purchase Agreement Advisory Resolved - Manufacturer: -
    agreement-amended-manufacturer: eventbridge 6233bf0e 2026-11-24T09:07:03Z Purchase Agreement Amended - Manufacturer: AMEND agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, 2026-11-24T09:00:00Z to 2027-11-24T09:00:00Z
    agreement-amended-proposer: eventbridge 9d84d25b 2026-11-24T09:06:03Z Purchase Agreement Amended - Proposer: AMEND agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on prod-aw4fgf5tyo5w2, offer-1234567890123, 2026-11-24T09:00:00Z to 2027-11-24T09:00:00Z
    agreement-created-new-manufacturer: eventbridge ca6b13ce 2026-11-24T09:02:03Z Purchase Agreement Created - Manufacturer: NEW agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, 2026-11-24T09:00:00Z to 2027-11-24T09:00:00Z
    agreement-created-new-proposer: eventbridge ab596cc5 2026-11-24T09:01:03Z Purchase Agreement Created - Proposer: NEW agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, 2026-11-24T09:00:00Z to 2027-11-24T09:00:00Z
    agreement-created-renew-manufacturer: eventbridge f54f5346 2026-11-24T09:05:03Z Purchase Agreement Created - Manufacturer: RENEW agmt-9xyz8wmklp67rt32nb1qv45ds after - of 845735284135 on -, offer-1234567890123, 2026-11-24T09:00:00Z to 2027-11-24T09:00:00Z
    agreement-created-renew-proposer: eventbridge 14e3240f 2026-11-24T09:03:03Z Purchase Agreement Created - Proposer: RENEW agmt-9xyz8wmklp67rt32nb1qv45ds after agmt-4mwg1nevbokzw95eca5797ixs of 845735284135 on prod-aw4fgf5tyo5w2, offer-1234567890123, 2026-11-24T09:00:00Z to 2027-11-24T09:00:00Z
    agreement-created-replace-proposer: eventbridge 8e3c6853 2026-11-24T09:04:03Z Purchase Agreement Created - Proposer: REPLACE agmt-9xyz8wmklp67rt32nb1qv45ds after agmt-4mwg1nevbokzw95eca5797ixs of 845735284135 on prod-aw4fgf5tyo5w2, offer-1234567890123, 2026-11-24T09:00:00Z to 2027-11-24T09:00:00Z
    agreement-ended-cancelled-manufacturer: eventbridge 2e5d542b 2026-11-24T09:13:03Z Purchase Agreement Ended - Manufacturer: ended CANCELLED agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, - to -
    agreement-ended-cancelled-proposer: eventbridge 3df07973 2026-11-24T09:08:03Z Purchase Agreement Ended - Proposer: ended CANCELLED agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, - to -
    agreement-ended-expired-proposer: eventbridge ebdb4c3c 2026-11-24T09:09:03Z Purchase Agreement Ended - Proposer: ended EXPIRED agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, - to -
    agreement-ended-renewed-proposer: eventbridge 6ede935c 2026-11-24T09:11:03Z Purchase Agreement Ended - Proposer: ended RENEWED agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, - to -
    agreement-ended-replaced-proposer: eventbridge d1173701 2026-11-24T09:12:03Z Purchase Agreement Ended - Proposer: ended REPLACED agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, - to -
    agreement-ended-terminated-proposer: eventbridge a742cd82 2026-11-24T09:10:03Z Purchase Agreement Ended - Proposer: ended TERMINATED agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, - to -
    agreement-ending-proposer: eventbridge 5394b96d 2026-11-24T09:18:03Z Purchase Agreement Ending - Proposer: -
    agreement-renewal-terms-finalized-proposer: eventbridge 42872198 2026-11-24T09:19:03Z Purchase Agreement Renewal Terms Finalized - Proposer: -
    agreement-renewal-upcoming-proposer: eventbridge e79f89ef 2026-11-24T09:20:03Z Purchase Agreement Renewal Upcoming - Proposer: -
    billing-adjustment-completed-proposer: eventbridge f39b134d 2026-11-24T09:27:03Z Purchase Agreement Billing Adjustment Completed - Proposer: -
    billing-adjustment-failed-proposer: eventbridge 37ad36e9 2026-11-24T09:28:03Z Purchase Agreement Billing Adjustment Failed - Proposer: -
    cancellation-request-approved-manufacturer: eventbridge 94dda35b 2026-11-24T09:26:03Z Agreement Cancellation Request Approved - Manufacturer: -
    cancellation-request-approved-proposer: eventbridge 3890f951 2026-11-24T09:22:03Z Agreement Cancellation Request Approved - Proposer: -
    cancellation-request-cancelled-proposer: eventbridge 8939c88e 2026-11-24T09:24:03Z Agreement Cancellation Request Cancelled - Proposer: -
    cancellation-request-pending-approval-proposer: eventbridge ba83f3b8 2026-11-24T09:21:03Z Agreement Cancellation Request Pending Approval - Proposer: -
    cancellation-request-rejected-proposer: eventbridge f92547e7 2026-11-24T09:23:03Z Agreement Cancellation Request Rejected - Proposer: -
    cancellation-request-validation-failed-proposer: eventbridge b8c16c89 2026-11-24T09:25:03Z Agreement Cancellation Request Validation Failed - Proposer: -
    change-set-cancelled: eventbridge d9d1a3ea 2026-11-24T09:36:03Z Change Set Cancelled: -
    change-set-failed: eventbridge ef0bc7d6 2026-11-24T09:35:03Z Change Set Failed: -
    change-set-succeeded: eventbridge 395efaed 2026-11-24T09:34:03Z Change Set Succeeded: -
    disbursement-paused: eventbridge 0ce1b415 2026-11-24T09:38:03Z Disbursement Paused: -
    https-notification: sns 009bd832 2026-11-23T08:00:00.655Z subscribe-success: Success of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, offer-abcexample123, trial
    https-subscription-confirmation: sns 908404fa 2026-11-23T08:01:00.135Z SubscriptionConfirmation: topic arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-n0123examplexxxxxxxxxxxx1 sends
    https-unsubscribe-confirmation: sns 3f0fcc5d 2026-11-23T08:01:00.135Z UnsubscribeConfirmation: topic arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-n0123examplexxxxxxxxxxxx1 sends no more
    license-deprovisioned-manufacturer: eventbridge 4311de2f 2026-11-24T09:15:03Z License Deprovisioned - Manufacturer: Deprovisioned arn:aws:license-manager::294406891311:license:l-9d01d15f86334a8894365cd7350556fa on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    license-updated-manufacturer: eventbridge fe6819cd 2026-11-24T09:14:03Z License Updated - Manufacturer: Updated arn:aws:license-manager::294406891311:license:l-9d01d15f86334a8894365cd7350556fa on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    odd-action-unknown: raw sqs-id 2026-11-24T12:00:00Z subscribe-paused: -
    odd-blanks-around-ids: raw sqs-id 2026-11-24T12:00:00Z subscribe-success: Success of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, offer-abcexample123, trial
    odd-blanks-in-envelope: sns 35078c92 2026-11-23T09:01:00Z entitlement-updated: look at X01EXAMPLEX on n0123examplexxxxxxxxxxxx1
    odd-camel-case-action: raw sqs-id 2026-11-24T12:00:00Z entitlement-updated: look at X01EXAMPLEX on n0123examplexxxxxxxxxxxx1
    odd-camel-case-keys: raw sqs-id 2026-11-24T12:00:00Z unsubscribe-success: UnsubscribeSuccess of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, -, -
    odd-created-open-end: eventbridge e683e944 2026-11-24T09:40:03Z Purchase Agreement Created - Proposer: NEW agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, offer-1234567890123, 2026-11-20T14:23:22.95Z to -
    odd-detail-type-unknown: eventbridge e82bfa49 2026-11-24T09:48:03Z Purchase Agreement Paused - Manufacturer: -
    odd-ended-without-offer: eventbridge 7c9121d2 2026-11-24T09:41:03Z Purchase Agreement Ended - Proposer: ended CANCELLED agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, -, - to -
    odd-ended-without-status: eventbridge 568f2301 2026-11-24T09:42:03Z Purchase Agreement Ended - Manufacturer: ended ENDED agmt-4mwg1nevbokzw95eca5797ixs after - of 845735284135 on -, -, - to -
    odd-event-without-id: eventbridge sha256-4 2026-11-24T12:00:00Z License Updated - Manufacturer: Updated arn:aws:license-manager::294406891311:license:l-9d01d15f86334a8894365cd7350556fa on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    odd-fields-unknown: eventbridge 6aeba3e9 2026-11-24T09:49:03Z License Updated - Manufacturer: Updated arn:aws:license-manager::294406891311:license:l-9d01d15f86334a8894365cd7350556fa on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    odd-license-arn-lic: eventbridge edff8cbc 2026-11-24T09:44:03Z License Deprovisioned - Manufacturer: Deprovisioned arn:aws:license-manager:us-east-1:123456789012:license/lic-0123456789abcdef on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    odd-license-arn-region: eventbridge cf7753c6 2026-11-24T09:45:03Z License Updated - Manufacturer: Updated arn:aws:license-manager:us-east-1:123456789012:license:l-e52ca6f38bf84d0fafb8802ca15ac11x on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    odd-license-arn-without-prefix: eventbridge 7faadfcb 2026-11-24T09:43:03Z License Updated - Manufacturer: Updated aws:license-manager:us-east-1:123456789012:l-e52ca6f38bf84d0fafb8802ca15ac11x on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    odd-license-without-code: eventbridge a6c15a82 2026-11-24T09:46:03Z License Updated - Manufacturer: Updated arn:aws:license-manager::294406891311:license:l-9d01d15f86334a8894365cd7350556fa on -/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    odd-license-without-role: eventbridge 208a020b 2026-11-24T09:47:03Z License Updated: Updated arn:aws:license-manager::294406891311:license:l-9d01d15f86334a8894365cd7350556fa on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    odd-message-as-object: sns 8132b138 2026-11-23T09:00:00Z subscribe-success: Success of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, offer-abcexample123, trial
    odd-no-message-id: sns sha256-d 2026-11-24T12:00:00Z unsubscribe-pending: UnsubscribePending of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, -, -
    odd-trial-as-boolean: raw sqs-id 2026-11-24T12:00:00Z subscribe-success: Success of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, offer-abcexample123, no trial
    offer-released: eventbridge 22e8ff00 2026-11-24T09:32:03Z Offer Released: -
    offerset-released: eventbridge c8ff149f 2026-11-24T09:33:03Z OfferSet Released: -
    products-security-report-created: eventbridge 0e328680 2026-11-24T09:37:03Z Products Security Report Created: -
    raw-entitlement-updated: raw sqs-id 2026-11-24T12:00:00Z entitlement-updated: look at X01EXAMPLEX on n0123examplexxxxxxxxxxxx1
    raw-subscribe-fail: raw sqs-id 2026-11-24T12:00:00Z subscribe-fail: Fail of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, offer-abcexample123, no trial
    raw-subscribe-success: raw sqs-id 2026-11-24T12:00:00Z subscribe-success: Success of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, offer-abcexample123, trial
    raw-unsubscribe-pending: raw sqs-id 2026-11-24T12:00:00Z unsubscribe-pending: UnsubscribePending of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, -, -
    raw-unsubscribe-success: raw sqs-id 2026-11-24T12:00:00Z unsubscribe-success: UnsubscribeSuccess of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, -, -
    relayed-license-updated: eventbridge c070aba4 2026-11-24T09:39:03Z License Updated - Manufacturer: Updated arn:aws:license-manager::294406891311:license:l-0000000000000000000000000000re1a on n0123examplexxxxxxxxxxxx1/prod-aw4fgf5tyo5w2 of 845735284135 by agmt-4mwg1nevbokzw95eca5797ixs
    sns-entitlement-updated: sns 0afe3f2d 2026-11-23T07:18:32.942Z entitlement-updated: look at X01EXAMPLEX on n0123examplexxxxxxxxxxxx1
    sns-subscribe-fail: sns f95df47e 2026-11-23T07:15:32.942Z subscribe-fail: Fail of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, offer-abcexample123, no trial
    sns-subscribe-success: sns aa8088a2 2026-11-23T07:14:32.942Z subscribe-success: Success of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, offer-abcexample123, trial
    sns-unsubscribe-pending: sns fb2ab9a2 2026-11-23T07:16:32.942Z unsubscribe-pending: UnsubscribePending of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, -, -
    sns-unsubscribe-success: sns b299fccc 2026-11-23T07:17:32.942Z unsubscribe-success: UnsubscribeSuccess of X01EXAMPLEX on n0123examplexxxxxxxxxxxx1, -, -
    spend-threshold-reached: eventbridge dc37408a 2026-11-24T09:29:03Z Spend Threshold Reached: -
    spend-threshold-vet-failed: eventbridge d247d888 2026-11-24T09:31:03Z Spend Threshold Vet Failed: -
    spend-threshold-vet-succeeded: eventbridge 04f58811 2026-11-24T09:30:03Z Spend Threshold Vet Succeeded: -
    unreadable-license-without-arn: the licence event names no licence (detail.license.arn)
    unreadable-no-buyer: subscribe-success names no customer-identifier
    unreadable-no-message: the SNS envelope has no Message
    unreadable-other-service: neither an SNS envelope, nor an AWS Marketplace message, nor an EventBridge event
    unreadable-test-message: not JSON: expected value at line 1 column 1
    unreadable-trailing-comma: not JSON: trailing comma at line 1 column 118
    "#);
}

#[test]
fn the_body_is_kept_as_it_came_and_the_id_is_the_same_each_time() {
    for (name, body) in fixtures() {
        match (read(&body), read(&body)) {
            (Ok(one), Ok(again)) => {
                assert_eq!(one.body, body, "{name}");
                assert_eq!(one, again, "{name}");
            }
            (one, again) => assert_eq!(one, again, "{name}"),
        }
    }
}

#[test]
fn what_is_cut_off_is_never_taken_for_the_whole() {
    for (name, body) in fixtures() {
        let whole = body.trim_end();
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let cut = read(&whole[..end]).expect_err(&name);
            assert!(!cut.reason.is_empty(), "{name} at {end}");
        }
        assert_eq!(shown(&read(whole)).is_empty(), shown(&read(&body)).is_empty(), "{name}");
    }
}

/// All that a message says, apart from its bytes and from an id that is made of them.
fn said(found: &Result<Notification, Unreadable>) -> String {
    let text = shown(found);
    match found {
        Ok(it) if it.id.starts_with("sha256-") => text.replace(&it.id[..8], ""),
        _ => text,
    }
}

#[test]
fn fields_from_later_years_change_nothing_wherever_they_stand() {
    for (name, body) in fixtures() {
        let Ok(document) = serde_json::from_str::<Value>(&body) else { continue };
        let mut places = 0;
        loop {
            let mut changed = document.clone();
            let mut left = places;
            if !add_at(&mut changed, &mut left) {
                break;
            }
            places += 1;
            let found = read(&changed.to_string());
            let (found, before) = (said(&found), said(&read(&document.to_string())));
            assert_eq!(found, before, "{name}, object {places}");
        }
        assert!(places > 0, "{name} has no place for another field");
    }
}

/// Adds a field to one of the objects, counted from the outermost; those in a message's text too.
fn add_at(value: &mut Value, left: &mut usize) -> bool {
    match value {
        Value::Object(object) => {
            if *left == 0 {
                object.insert("novelty".into(), json!({"id": "x", "arn": ["y"], "code": null}));
                return true;
            }
            *left -= 1;
            object.iter_mut().any(|(key, value)| {
                if key == "Message" { add_in_text(value, left) } else { add_at(value, left) }
            })
        }
        Value::Array(items) => items.iter_mut().any(|item| add_at(item, left)),
        _ => false,
    }
}

fn add_in_text(message: &mut Value, left: &mut usize) -> bool {
    let inner = message.as_str().and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok());
    let Some(inner) = inner else { return add_at(message, left) };
    let mut inner = Value::Object(inner);
    let added = add_at(&mut inner, left);
    *message = json!(inner.to_string());
    added
}
