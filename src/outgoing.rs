//! HTTP clients for calls that leave this process.
//!
//! Plain HTTP goes on where a machine has no certificates of authorities, as in a bare container image: only what needs
//! TLS fails then, when it is needed. What stays on this machine is no proxy's concern.

use std::sync::OnceLock;

use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use reqwest::{ClientBuilder, Url};

/// The advice for a machine without the certificates of authorities.
pub const NO_AUTHORITIES: &str = "this machine has no CA certificates, so nothing is reached over HTTPS: install the package \
     ca-certificates, or name a file of them in SSL_CERT_FILE";

/// Reports whether this machine trusts any authority, without which nothing is reached over HTTPS.
pub fn has_authorities() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| !rustls_native_certs::load_native_certs().certs.is_empty())
}

/// Builds a client for anything on the network.
pub fn client() -> ClientBuilder {
    let builder = reqwest::Client::builder();
    if has_authorities() { builder } else { builder.tls_certs_only([]) }
}

/// Builds a client for what is on this machine: it trusts nobody's certificate and asks no proxy.
pub fn local_client() -> ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

/// Builds a client for this address.
pub fn client_to(url: &Url) -> ClientBuilder {
    match (is_local(url), url.scheme()) {
        (true, "http") => local_client(),
        (true, _) => client().no_proxy(),
        (false, _) => client(),
    }
}

/// Reports whether an address leads to this machine and nowhere else.
pub fn is_local(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let named = host == "localhost" || host.ends_with(".localhost");
    named || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Builds a client for AWS's SDK where its own would not do: it has to have some authority.
pub fn sdk_client() -> Option<SharedHttpClient> {
    if has_authorities() {
        return None;
    }
    let context = TlsContext::builder().with_trust_store(TrustStore::empty()).build().ok()?;
    let builder = aws_smithy_http_client::Builder::new();
    Some(
        builder
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context)
            .build_https(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_local() {
        let rows = [
            ("http://127.0.0.1:8480/", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:8480/", true),
            ("http://localhost:8480/", true),
            ("http://app.localhost/", true),
            ("http://10.0.0.5/", false),
            ("http://localhost.example.com/", false),
            ("http://0.0.0.0/", false),
            ("http://[fe80::1]/", false),
        ];
        for (url, local) in rows {
            assert_eq!(is_local(&url.parse().unwrap()), local, "{url}");
        }
    }
}
