//! Values that others would refuse later: what AWS, the log or a signature needs is checked before anything starts.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretSlice};
use tracing_subscriber::EnvFilter;

use super::value::SettingValue;
use crate::domain::{is_external_id, is_region, is_role_arn};
use crate::intake::sns::is_topic;

/// The bytes that a signing key may have, as Standard Webhooks asks for.
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

/// A text whose form was checked.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $allowed:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl SettingValue for $name {
            const ALLOWED: &'static str = $allowed;

            fn parse(text: &str) -> Option<Self> {
                let text = text.trim();
                let check: fn(&str) -> bool = $check;
                check(text).then(|| Self(text.to_owned()))
            }
        }
    };
}

checked_text! {
    /// The address of an SQS queue.
    QueueUrl,
    "the URL of an SQS queue, such as https://sqs.us-east-1.amazonaws.com/111122223333/marketd; its ARN is none",
    |text| {
        let url = <Url as SettingValue>::parse(text);
        url.is_some_and(|url| url.path().len() > 1 && url.query().is_none() && url.fragment().is_none())
    }
}

checked_text! {
    /// The filter of the log lines that are written.
    LogFilter,
    "a filter such as info or marketd=debug,info",
    |text| !text.is_empty() && EnvFilter::try_new(text).is_ok()
}

checked_text! {
    /// The ARN of an IAM role.
    RoleArn,
    "an IAM role's ARN, such as arn:aws:iam::111122223333:role/marketd",
    is_role_arn
}

checked_text! {
    /// The external id that a role's trust policy asks for.
    ExternalId,
    "an external id: 2 to 1224 letters, digits and =,.@:/+-_",
    is_external_id
}

checked_text! {
    /// An AWS region.
    Region,
    "an AWS region, such as us-east-1",
    is_region
}

/// Topics of SNS.
pub(super) struct Topics(pub(super) Vec<String>);

impl SettingValue for Topics {
    const ALLOWED: &'static str = "ARNs of SNS topics, with commas between";

    fn parse(text: &str) -> Option<Self> {
        let topics = text.split(',').map(str::trim).filter(|topic| !topic.is_empty());
        topics
            .map(|topic| is_topic(topic).then(|| topic.to_owned()))
            .collect::<Option<_>>()
            .map(Self)
    }
}

/// The key that signs events.
#[derive(Clone)]
pub struct SigningKey(Arc<SecretSlice<u8>>);

impl SigningKey {
    /// Returns the key itself.
    pub fn bytes(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(********)")
    }
}

impl SettingValue for SigningKey {
    const ALLOWED: &'static str = "whsec_ and the base64 of 24 to 64 bytes, as `marketd webhook secret` makes it, or `echo whsec_$(openssl rand -base64 32)`";

    fn parse(text: &str) -> Option<Self> {
        let encoded = text.trim().strip_prefix("whsec_")?;
        let key = STANDARD.decode(encoded).ok()?;
        KEY_BYTES.contains(&key.len()).then(|| Self(Arc::new(key.into())))
    }
}
