//! Signatures of SNS messages: what they cover, and whether they hold.

use std::ops::RangeInclusive;

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Refusal, shortened};

const NOTIFICATION: &[&str] = &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"];
const CONFIRMATION: &[&str] =
    &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];

/// The field that may hold lines of its own. In two fields they would let a signed text be cut into other values than
/// those that were signed; AWS allows none in a subject either.
const FREE: &str = "Message";

/// Returns the text that is signed: names and values in the order of the names, a line each. A notification's subject
/// counts only if it has one.
pub fn signed_text(message: &Map<String, Value>) -> Result<String, Refusal> {
    let Some(kind) = message.get("Type").and_then(Value::as_str) else {
        return Err(Refusal::Unreadable("it has no Type, so it is no signed SNS message".into()));
    };
    let names = match kind {
        "Notification" => NOTIFICATION,
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => CONFIRMATION,
        _ => {
            let said = format!("{:?} is no type of SNS message", shortened(kind));
            return Err(Refusal::Unreadable(said));
        }
    };
    let mut text = String::new();
    for name in names {
        let value = match message.get(*name) {
            Some(Value::String(value)) => value,
            None | Some(Value::Null) if *name == "Subject" => continue,
            _ => return Err(Refusal::Unreadable(format!("the SNS message has no {name}"))),
        };
        if *name != FREE && value.contains(char::is_control) {
            return Err(Refusal::Unreadable(format!("{name} holds control characters")));
        }
        text.push_str(name);
        text.push('\n');
        text.push_str(value);
        text.push('\n');
    }
    Ok(text)
}

/// The lengths of an RSA signature, of keys of 2,048 to 8,192 bits.
const LENGTHS: RangeInclusive<usize> = 256..=1_024;

/// The signature that a message claims.
pub struct Claim {
    parameters: &'static RsaParameters,
    signature: Vec<u8>,
}

/// Reads the signature that a message carries, if it could be one.
pub fn claim(message: &Map<String, Value>) -> Result<Claim, Refusal> {
    let field = |name: &str| message.get(name).and_then(Value::as_str);
    let parameters: &'static RsaParameters = match field("SignatureVersion") {
        Some("1") => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Some("2") => &RSA_PKCS1_2048_8192_SHA256,
        version => {
            let version = shortened(version.unwrap_or("none"));
            return Err(Refusal::Forged(format!("signature version {version} is not known")));
        }
    };
    let signature = field("Signature").and_then(|text| STANDARD.decode(text).ok());
    let signature = signature.filter(|it| LENGTHS.contains(&it.len()));
    let signature =
        signature.ok_or_else(|| Refusal::Forged("it carries no readable signature".into()))?;
    Ok(Claim { parameters, signature })
}

/// Verifies that the message is signed by the key.
pub fn verify(message: &Map<String, Value>, public_key: &[u8]) -> Result<(), Refusal> {
    let Claim { parameters, signature } = claim(message)?;
    let text = signed_text(message)?;
    UnparsedPublicKey::new(parameters, public_key)
        .verify(text.as_bytes(), &signature)
        .map_err(|_| Refusal::Forged("its signature does not fit it".into()))
}
