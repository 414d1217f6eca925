//! The certificate that an SNS message says it is signed with: from AWS's own hosts, in force, and AWS's.

use jiff::Timestamp;
use reqwest::Url;
use x509_parser::pem::Pem;
use x509_parser::prelude::{GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{Refusal, shortened};

/// Whose key SNS signs with.
const SIGNER: &str = "sns.amazonaws.com";

/// An address at one of the hosts that AWS documents for SNS: over HTTPS, on its usual port, without a name before it.
pub fn aws_address(text: &str) -> Result<Url, Refusal> {
    let foreign = || Refusal::Foreign(format!("{} is no address of SNS's", shortened(text)));
    let url = Url::parse(text).map_err(|_| foreign())?;
    let plain = url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url.host_str().unwrap_or_default();
    let region = host.strip_prefix("sns.").and_then(|rest| {
        rest.strip_suffix(".amazonaws.com").or(rest.strip_suffix(".amazonaws.com.cn"))
    });
    let is_region = |region: &str| {
        !region.is_empty()
            && region.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
    };
    if plain && region.is_some_and(is_region) { Ok(url) } else { Err(foreign()) }
}

/// Where a signing certificate lies.
pub fn certificate_address(text: &str) -> Result<Url, Refusal> {
    let url = aws_address(text)?;
    let file = url.path().strip_prefix("/SimpleNotificationService-");
    let name = file.and_then(|file| file.strip_suffix(".pem"));
    // Whatever else an address says makes another one of it, which would be asked for anew.
    if name.is_some_and(|name| !name.contains('/')) && url.query().or(url.fragment()).is_none() {
        return Ok(url);
    }
    Err(Refusal::Foreign(format!("{} is no certificate of SNS's", shortened(text))))
}

/// A key that was found good, and until when it is.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// The public key as RSA writes it.
    pub public_key: Vec<u8>,
    /// When its certificate expires.
    pub good_until: Timestamp,
}

/// The key of a certificate file: the first certificate is SNS's and in force, and each further one has signed the
/// one before it. The file comes over TLS from AWS's host, which vouches for what it does not carry.
pub fn signing_key(file: &[u8], now: Timestamp) -> Result<SigningKey, Refusal> {
    let bad = |what: &str| Refusal::Forged(format!("its certificate {what}"));
    let pems: Vec<Pem> =
        Pem::iter_from_buffer(file).collect::<Result<_, _>>().map_err(|_| bad("cannot be read"))?;
    let mut chain = Vec::with_capacity(pems.len());
    for pem in &pems {
        chain.push(pem.parse_x509().map_err(|_| bad("cannot be read"))?);
    }
    let leaf = chain.first().ok_or_else(|| bad("is missing"))?;
    if !names_signer(leaf) {
        return Err(bad("is not SNS's"));
    }
    let moment = ASN1Time::from_timestamp(now.as_second()).map_err(|_| bad("cannot be dated"))?;
    for certificate in &chain {
        if !certificate.validity().is_valid_at(moment) {
            return Err(bad("is not in force"));
        }
    }
    for pair in chain.windows(2) {
        if let [issued, issuer] = pair
            && (issued.issuer() != issuer.subject() || !has_signed(issuer, issued))
        {
            return Err(bad("is not signed by the one that it names"));
        }
    }
    let expires = leaf.validity().not_after.timestamp();
    Ok(SigningKey {
        public_key: leaf.public_key().subject_public_key.data.to_vec(),
        good_until: Timestamp::from_second(expires).unwrap_or(now),
    })
}

fn names_signer(certificate: &X509Certificate<'_>) -> bool {
    let fits = |name: &str| name == SIGNER || aws_address(&format!("https://{name}/")).is_ok();
    let by_subject = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let mut by_alternative = alternatives.iter().flat_map(|names| &names.value.general_names);
    by_subject.into_iter().any(fits)
        || by_alternative.any(|name| matches!(name, GeneralName::DNSName(name) if fits(name)))
}

/// AWS's authorities sign with RSA and SHA-256.
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

    #[test]
    fn only_the_hosts_that_aws_documents_are_asked() {
        let good = [
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-01d088a6f77103d0.pem",
            "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-1.pem",
        ];
        for text in good {
            assert!(certificate_address(text).is_ok(), "{text}");
        }
        let bad = [
            "http://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem",
            "https://evil.example/sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com@evil.example/SimpleNotificationService-1.pem",
            "https://user@sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com:8443/SimpleNotificationService-1.pem",
            "https://sns..amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.a.b.amazonaws.com/SimpleNotificationService-1.pem",
            "https://s3.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com/bucket/SimpleNotificationService-1.pem",
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem.exe",
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1/2.pem",
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem?3",
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem#4",
            "https://127.0.0.1/SimpleNotificationService-1.pem",
            "file:///SimpleNotificationService-1.pem",
            "",
        ];
        for text in bad {
            assert!(matches!(certificate_address(text), Err(Refusal::Foreign(_))), "{text}");
        }
    }
}
