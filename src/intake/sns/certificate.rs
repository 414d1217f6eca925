//! The certificate that an SNS message says it is signed with: from the one host that its topic's region has, in
//! force, and made out to SNS.
//!
//! What anchors this is the host. It is computed from the topic, never taken from the message, and asked over TLS that
//! is verified against the platform's roots; only AWS can hold a name like `sns.us-east-1.amazonaws.com`. (Any other
//! label before `.amazonaws.com` may be somebody's bucket, hence the shape of a region.) The file itself cannot be led
//! back to a root: AWS serves the signing certificate alone, issued by one of Amazon's intermediates that is not in the
//! file. So its issuer is not known here; it has to be somebody else than the certificate itself, and if a file does
//! carry issuers, each must be an authority and have signed the one before it.

use jiff::Timestamp;
use reqwest::Url;
use x509_parser::pem::Pem;
use x509_parser::prelude::{GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use super::Refusal;
use crate::domain::is_region;

/// The host of SNS that a topic lies at.
#[derive(Debug)]
pub struct Host<'a> {
    region: &'a str,
    /// The suffix of the names of AWS's hosts in the topic's partition.
    domain: &'static str,
}

impl<'a> Host<'a> {
    /// Returns the host of a topic, by its ARN.
    pub fn of_topic(topic: &'a str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = topic.split(':').collect();
        if let ["arn", partition, "sns", region, _account, _name] = parts[..]
            && let Some(domain) = domain(partition)
            && is_region(region)
        {
            return Ok(Self { region, domain });
        }
        Err(Refusal::Foreign(format!("{topic:?} is no ARN of a topic")))
    }

    fn name(&self) -> String {
        format!("sns.{}.{}", self.region, self.domain)
    }

    /// Returns the path that follows this host in an address. Compared as text: whatever a parser of addresses would
    /// forgive is foreign.
    fn path<'t>(&self, address: &'t str) -> Result<&'t str, Refusal> {
        let path =
            address.strip_prefix("https://").and_then(|rest| rest.strip_prefix(&*self.name()));
        path.filter(|path| path.starts_with('/')).ok_or_else(|| {
            Refusal::Foreign(format!(
                "{address:?} is no address of the topic's host {}",
                self.name()
            ))
        })
    }

    /// Returns an address at this host: over HTTPS, on its usual port, without a name before it.
    pub fn address(&self, text: &str) -> Result<Url, Refusal> {
        self.path(text)?;
        Url::parse(text)
            .map_err(|error| Refusal::Foreign(format!("{text:?} is no address: {error}")))
    }

    /// Returns the address of a signing certificate.
    pub fn certificate(&self, text: &str) -> Result<Url, Refusal> {
        let serial = self
            .path(text)?
            .strip_prefix("/SimpleNotificationService-")
            .and_then(|rest| rest.strip_suffix(".pem"));
        if serial
            .is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric()))
        {
            return self.address(text);
        }
        Err(Refusal::Foreign(format!("{text:?} is no certificate of SNS's")))
    }

    /// Reports whether a certificate's name is SNS's: one for most regions, and newer or closed ones have their own.
    fn is_signer(&self, name: &str) -> bool {
        let Self { region, domain } = self;
        name == "sns.amazonaws.com"
            || name == self.name()
            || name == format!("sns-signing.{region}.{domain}")
            || name == format!("sns-{region}.{domain}")
    }
}

fn domain(partition: &str) -> Option<&'static str> {
    match partition {
        "aws" | "aws-us-gov" => Some("amazonaws.com"),
        "aws-cn" => Some("amazonaws.com.cn"),
        _ => None,
    }
}

/// Reports whether this is the ARN of a topic of SNS.
pub fn is_topic(text: &str) -> bool {
    Host::of_topic(text).is_ok()
}

/// A key that was found good, and until when it is.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// The public key as RSA writes it.
    pub public_key: Vec<u8>,
    /// The time at which its certificate expires.
    pub good_until: Timestamp,
}

/// Returns the key of a certificate file: the first certificate is SNS's, and each further one is an authority that has
/// signed the one before it; all are in force.
pub fn signing_key(file: &[u8], host: &Host<'_>, now: Timestamp) -> Result<SigningKey, Refusal> {
    let bad = |what: &str| Refusal::Forged(format!("its certificate {what}"));
    let pems: Vec<Pem> =
        Pem::iter_from_buffer(file).collect::<Result<_, _>>().map_err(|_| bad("cannot be read"))?;
    let mut chain = Vec::with_capacity(pems.len());
    for pem in &pems {
        chain.push(pem.parse_x509().map_err(|_| bad("cannot be read"))?);
    }
    let leaf = chain.first().ok_or_else(|| bad("is missing"))?;
    if !names_signer(leaf, host) {
        return Err(bad("is not SNS's"));
    }
    if leaf.issuer() == leaf.subject() || leaf.is_ca() || has_signed(leaf, leaf) {
        return Err(bad("is issued by itself, as anybody can"));
    }
    let moment = ASN1Time::from_timestamp(now.as_second()).map_err(|_| bad("cannot be dated"))?;
    for certificate in &chain {
        if !certificate.validity().is_valid_at(moment) {
            return Err(bad("is not in force"));
        }
    }
    for pair in chain.windows(2) {
        let [issued, issuer] = pair else { continue };
        if !may_issue(issuer) {
            return Err(bad("is signed by one that is no authority"));
        }
        if issued.issuer() != issuer.subject() || !has_signed(issuer, issued) {
            return Err(bad("is not signed by the one that it names"));
        }
    }
    let expires = leaf.validity().not_after.timestamp();
    Ok(SigningKey {
        public_key: leaf.public_key().subject_public_key.data.to_vec(),
        good_until: Timestamp::from_second(expires).unwrap_or(now),
    })
}

fn names_signer(certificate: &X509Certificate<'_>, host: &Host<'_>) -> bool {
    let by_subject = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let mut by_alternative = alternatives.iter().flat_map(|names| &names.value.general_names);
    by_subject.into_iter().any(|name| host.is_signer(name))
        || by_alternative
            .any(|name| matches!(name, GeneralName::DNSName(name) if host.is_signer(name)))
}

/// Reports whether this is an authority's certificate, which says so, and may sign others if it says what it is for.
fn may_issue(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.key_usage();
    certificate.is_ca()
        && usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

/// Reports whether one certificate has signed another. AWS's authorities sign with RSA and SHA-256.
fn has_signed(issuer: &X509Certificate<'_>, issued: &X509Certificate<'_>) -> bool {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    let key = &issuer.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(issued.tbs_certificate.as_ref(), &issued.signature_value.data)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "SimpleNotificationService-01d088a6f77103d0.pem";

    fn topic(partition: &str, region: &str) -> String {
        format!("arn:{partition}:sns:{region}:287250355862:topic")
    }

    #[test]
    fn the_host_is_the_one_of_the_topic() {
        for (partition, region, host) in [
            ("aws", "us-east-1", "sns.us-east-1.amazonaws.com"),
            ("aws", "ap-southeast-2", "sns.ap-southeast-2.amazonaws.com"),
            ("aws-us-gov", "us-gov-west-1", "sns.us-gov-west-1.amazonaws.com"),
            ("aws-cn", "cn-north-1", "sns.cn-north-1.amazonaws.com.cn"),
        ] {
            let topic = topic(partition, region);
            let found = Host::of_topic(&topic).unwrap();
            assert_eq!(found.name(), host);
            assert!(found.certificate(&format!("https://{host}/{FILE}")).is_ok(), "{topic}");
            let confirm = format!("https://{host}/?Action=ConfirmSubscription&Token=2336");
            assert!(found.address(&confirm).is_ok(), "{topic}");
        }
        // Such names are buckets' and other services', or nobody's yet.
        for region in [
            "s3",
            "s3-us-west-2",
            "s3-website-us-east-1",
            "us",
            "us-east",
            "us-1",
            "u-east-1",
            "us-east-",
            "-east-1",
            "us-east1-1",
            "us-east-1x",
            "us--1",
            "us-east-1.evil",
            "us-east-1/",
            "US-EAST-1",
            "",
        ] {
            let topic = topic("aws", region);
            let found = Host::of_topic(&topic);
            assert!(matches!(found, Err(Refusal::Foreign(_))), "{region}");
        }
        for topic in [
            "",
            "topic",
            "arn:aws:sns:us-east-1:1",
            "arn:aws:sqs:us-east-1:1:topic",
            "arn:other:sns:us-east-1:1:topic",
            "arn:aws:sns:us-east-1:1:topic:subscription",
        ] {
            assert!(matches!(Host::of_topic(topic), Err(Refusal::Foreign(_))), "{topic}");
        }
    }

    #[test]
    fn only_the_host_of_the_topic_is_asked() {
        let topic = topic("aws", "us-east-1");
        let host = Host::of_topic(&topic).unwrap();
        for text in [
            "http://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "HTTPS://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https:\\\\sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem",
            "https://evil.example/sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com@evil.example/SimpleNotificationService-1.pem",
            "https://user@sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com:8443/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com:443/SimpleNotificationService-1.pem",
            "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com.cn/SimpleNotificationService-1.pem",
            "https://sns..amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.s3.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
            "https://s3.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com",
            "https://127.0.0.1/SimpleNotificationService-1.pem",
            "file:///SimpleNotificationService-1.pem",
            "",
        ] {
            assert!(matches!(host.address(text), Err(Refusal::Foreign(_))), "{text}");
            assert!(matches!(host.certificate(text), Err(Refusal::Foreign(_))), "{text}");
        }
        for path in [
            "",
            "bucket/SimpleNotificationService-1.pem",
            "SimpleNotificationService-1.pem.exe",
            "SimpleNotificationService-.pem",
            "SimpleNotificationService.pem",
            "SimpleNotificationService-1.pem?a=.pem",
            "SimpleNotificationService-1?a=.pem",
            "SimpleNotificationService-1#.pem",
            "SimpleNotificationService-a/b.pem",
            "SimpleNotificationService-%2e.pem",
            "?SimpleNotificationService-1.pem",
        ] {
            let text = format!("https://sns.us-east-1.amazonaws.com/{path}");
            assert!(matches!(host.certificate(&text), Err(Refusal::Foreign(_))), "{text}");
        }
    }

    #[test]
    fn a_certificate_is_made_out_to_sns() {
        let topic = topic("aws", "af-south-1");
        let host = Host::of_topic(&topic).unwrap();
        for name in [
            "sns.amazonaws.com",
            "sns.af-south-1.amazonaws.com",
            "sns-signing.af-south-1.amazonaws.com",
            "sns-af-south-1.amazonaws.com",
        ] {
            assert!(host.is_signer(name), "{name}");
        }
        for name in
            ["sns.s3.amazonaws.com", "sns.us-east-1.amazonaws.com", "*.amazonaws.com", "sns"]
        {
            assert!(!host.is_signer(name), "{name}");
        }
    }
}
