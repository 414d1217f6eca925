//! TLS to the server, as libpq's `sslmode` has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::error::{Error, Result};

/// The words that `sslmode` takes.
pub(super) const MODES: &str = "disable, prefer, require, verify-ca or verify-full";

/// The care that is taken for who the server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS with whoever answers, where the server has it.
    #[default]
    Prefer,
    /// TLS with whoever answers.
    Require,
    /// TLS with a server whose certificate is signed by one of the authorities.
    VerifyCa,
    /// TLS with a server whose certificate is also for the host that is connected to.
    VerifyFull,
}

impl TlsMode {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// Returns what the driver does: it only knows whether there is TLS.
    pub(super) const fn negotiated(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// TLS to a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    pub(super) mode: TlsMode,
    /// The file with the authorities' certificates; the system's where none is named.
    pub(super) roots: Option<PathBuf>,
}

impl Tls {
    /// Makes what connects. The authorities are read anew each time, so that a new file needs no restart.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let lenient = |authorities| {
            let provider = Arc::clone(&provider);
            Arc::new(Lenient { authorities, provider }) as Arc<dyn ServerCertVerifier>
        };
        let verifier = match (self.mode, &self.roots) {
            (TlsMode::Disable | TlsMode::Prefer, _) | (TlsMode::Require, None) => lenient(None),
            // libpq's rule: who names authorities wants them asked.
            (TlsMode::Require | TlsMode::VerifyCa, _) => {
                lenient(Some(self.authorities(&provider)?))
            }
            (TlsMode::VerifyFull, _) => self.authorities(&provider)?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }

    fn authorities(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.roots {
            read_roots(path, &mut roots)?;
        } else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
        if roots.is_empty() {
            let detail =
                "this system has no certificate authorities: name a file of them with sslrootcert";
            return Err(Error::Tls(detail.to_owned()));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| Error::Tls(error.to_string()))
    }
}

fn read_roots(path: &Path, roots: &mut RootCertStore) -> Result<()> {
    let fault = |detail: String| Error::Tls(format!("sslrootcert {}: {detail}", path.display()));
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() { Err(fault("it holds no certificate".to_owned())) } else { Ok(()) }
}

/// Takes a certificate of the authorities' for any host; any certificate at all where none are asked. That the server has
/// its key is seen to either way.
#[derive(Debug)]
struct Lenient {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The name is looked at last: all else was in order.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::super::address::Address;
    use super::super::patience::Patience;
    use super::super::session::Session;
    use super::*;

    /// Connects as the query says, and returns whether the connection is encrypted.
    fn connect(host: &str, query: &str) -> Option<Result<bool, String>> {
        let url = env::var("MARKETD_TEST_DATABASE_URL").ok()?.replace("127.0.0.1", host);
        let address: Address = format!("{url}?{query}").parse().unwrap();
        let session = match Session::connect(Arc::new(address), Patience::USUAL) {
            Ok(session) => session,
            Err(error) => return Some(Err(error.to_string())),
        };
        let asked = "SELECT CAST(ssl AS integer) FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let rows = session.query(&session.prepare(asked).unwrap(), &[]).unwrap();
        Some(Ok(rows[0].value(0) == Some(&rusqlite::types::Value::Integer(1))))
    }

    #[test]
    fn a_server_is_taken_for_who_its_certificate_says() {
        let Ok(folder) = env::var("MARKETD_TEST_DATABASE_AUTHORITIES") else { return };
        let file = |name: &str| format!("sslrootcert={folder}/{name}.pem");
        for (host, query, is_encrypted) in [
            ("127.0.0.1", "sslmode=disable".to_owned(), false),
            ("127.0.0.1", String::new(), true),
            ("127.0.0.1", "sslmode=require".to_owned(), true),
            ("127.0.0.1", format!("sslmode=verify-ca&{}", file("ca")), true),
            ("localhost", format!("sslmode=verify-full&{}", file("ca")), true),
        ] {
            assert_eq!(connect(host, &query), Some(Ok(is_encrypted)), "{host} {query}");
        }
        for (host, query, words) in [
            ("127.0.0.1", format!("sslmode=verify-full&{}", file("ca")), "not valid for name"),
            ("localhost", format!("sslmode=verify-full&{}", file("other")), "UnknownIssuer"),
            ("localhost", format!("sslmode=verify-ca&{}", file("other")), "UnknownIssuer"),
            // As libpq: authorities that are named are asked.
            ("localhost", format!("sslmode=require&{}", file("other")), "UnknownIssuer"),
            // The system's authorities know nothing of this one.
            ("localhost", "sslmode=verify-full".to_owned(), "invalid peer certificate"),
            ("localhost", format!("sslmode=verify-full&{}", file("none")), "none.pem"),
        ] {
            let refused = connect(host, &query).unwrap().unwrap_err();
            assert!(refused.contains(words), "{host} {query}: {refused}");
        }
    }
}
