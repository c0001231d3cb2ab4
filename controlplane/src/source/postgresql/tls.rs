//! TLS to PostgreSQL by rustls, with libpq's words: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`.
//!
//! `require` encrypts and trusts whoever answers, unless `sslrootcert` is given: then it is `verify-ca`, as in libpq. `verify-ca` asks
//! for a chain to a certificate of `sslrootcert`, `verify-full` for the host's name in it too. A server whose own certificate
//! stands in `sslrootcert` byte for byte is trusted as such, because PostgreSQL's manual makes such certificates and webpki
//! would refuse them as a CA's. The files are read at the start, so that a wrong one ends it, and again for each
//! connection, so that a renewed certificate needs no restart.
//!
//! It refuses `allow`, revocation lists and keys with a passphrase. A key or certificate never reaches a log.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use super::binding::tls_server_end_point;
use super::conninfo::Conninfo;

/// Where distributions keep the certificates that the system trusts.
pub(crate) const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// What PostgreSQL 17 and later want to hear, and earlier ones do not mind.
const PROTOCOL: &[u8] = b"postgresql";

/// Whether there is to be TLS, and what the server has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// None.
    Disable,
    /// Where the server offers it; whoever it is.
    Prefer,
    /// Always; whoever the server is.
    Require,
    /// Always, with a certificate that chains to a trusted one.
    VerifyCa,
    /// The same, and with the host's name in it.
    VerifyFull,
}

/// What the connection string says about TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// Whether and how.
    pub(super) mode: Mode,
    roots: Option<Roots>,
    client: Option<ClientFiles>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Roots {
    File(PathBuf),
    System,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ClientFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why TLS cannot be had with these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Settings that do not go together.
    #[error("the database URL's TLS settings do not fit: {0}")]
    Settings(&'static str),
    /// A file.
    #[error("cannot use {setting} {}: {reason}", .path.display())]
    File {
        /// Which setting names it.
        setting: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system's certificates.
    #[error("sslrootcert=system, but there are no certificates in any of {}; give a file", SYSTEM_ROOTS.join(", "))]
    NoSystemRoots,
    /// rustls refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Tls {
    /// Takes the settings out of a connection string.
    pub(super) fn from_conninfo(info: &mut Conninfo) -> Result<Tls, TlsError> {
        let roots = info.take("sslrootcert").map(|text| match text.as_str() {
            "system" => Roots::System,
            file => Roots::File(file.into()),
        });
        let mode = match (info.take("sslmode").as_deref(), &roots) {
            (None, Some(Roots::System)) | (Some("verify-full"), _) => Mode::VerifyFull,
            (Some(_), Some(Roots::System)) => {
                return Err(TlsError::Settings("sslrootcert=system goes with sslmode=verify-full only"));
            }
            (Some("disable"), _) => Mode::Disable,
            (None | Some("prefer"), _) => Mode::Prefer,
            (Some("require"), None) => Mode::Require,
            (Some("require" | "verify-ca"), _) => Mode::VerifyCa,
            (Some(_), _) => {
                return Err(TlsError::Settings(
                    "sslmode has to be disable, prefer, require, verify-ca or verify-full",
                ));
            }
        };
        if mode >= Mode::VerifyCa && roots.is_none() {
            return Err(TlsError::Settings(
                "verify-ca and verify-full need sslrootcert=FILE with the CA's certificate, or sslrootcert=system",
            ));
        }
        let client = match (info.take("sslcert"), info.take("sslkey")) {
            (Some(certificate), Some(key)) => {
                Some(ClientFiles { certificate: certificate.into(), key: key.into() })
            }
            (None, None) => None,
            _ => return Err(TlsError::Settings("sslcert and sslkey go together")),
        };
        Ok(Tls { mode, roots, client })
    }

    /// No TLS: over a Unix socket there is none.
    pub(super) fn off() -> Tls {
        Tls { mode: Mode::Disable, roots: None, client: None }
    }

    /// Reads the files and makes what connects. Without TLS it reads nothing.
    pub(super) fn connector(&self) -> Result<Connector, TlsError> {
        if self.mode == Mode::Disable {
            return Ok(Connector { config: None });
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            chain: if self.mode >= Mode::VerifyCa {
                self.roots.as_ref().map(Chain::read).transpose()?
            } else {
                None
            },
            name: self.mode == Mode::VerifyFull,
            provider: Arc::clone(&provider),
        };
        let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = certificates("sslcert", &files.certificate)?;
                let key = PrivateKeyDer::from_pem_file(&files.key)
                    .map_err(|error| unusable("sslkey", &files.key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::File {
                    setting: "sslcert with sslkey",
                    path: files.certificate.clone(),
                    reason: error.to_string(),
                })?
            }
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Connector { config: Some(Arc::new(config)) })
    }
}

/// What to do about an error of TLS, where that can be told.
pub(super) fn advice(error: &rustls::Error) -> Option<&'static str> {
    use CertificateError as Bad;
    Some(match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer => {
                "no certificate of sslrootcert has signed the server's; give the file of the right CA"
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "the server's certificate names other hosts; connect by a name in its subjectAltName, or use sslmode=verify-ca"
            }
            Bad::Expired | Bad::ExpiredContext { .. } => "renew the server's certificate",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => "check the clocks of both hosts",
            _ => "check the server's certificate",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                "the server wants a client certificate; give sslcert and sslkey"
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError => {
                "the server refuses our client certificate; check sslcert, sslkey and the server's ssl_ca_file"
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| unusable(setting, path, &error))?;
    if found.is_empty() {
        let reason = "it has no certificate in PEM".to_owned();
        return Err(TlsError::File { setting, path: path.to_owned(), reason });
    }
    Ok(found)
}

fn unusable(setting: &'static str, path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    use rustls::pki_types::pem::Error;
    let reason = match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "it has no private key in PEM without a passphrase".to_owned(),
        other => other.to_string(),
    };
    TlsError::File { setting, path: path.to_owned(), reason }
}

/// What a server's certificate is held against.
#[derive(Debug)]
struct Chain {
    roots: RootCertStore,
    /// The same certificates as they stand in the file.
    given: Vec<CertificateDer<'static>>,
}

impl Chain {
    fn read(roots: &Roots) -> Result<Chain, TlsError> {
        let given = match roots {
            Roots::File(path) => certificates("sslrootcert", path)?,
            Roots::System => SYSTEM_ROOTS
                .iter()
                .find_map(|path| certificates("sslrootcert", Path::new(path)).ok())
                .ok_or(TlsError::NoSystemRoots)?,
        };
        let mut store = RootCertStore::empty();
        // One that webpki cannot use as a root may still be the server's own.
        store.add_parsable_certificates(given.iter().cloned());
        Ok(Chain { roots: store, given })
    }
}

/// Judges a server's certificate by the mode.
#[derive(Debug)]
struct Verifier {
    chain: Option<Chain>,
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            if !chain.given.contains(end_entity) {
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &certificate,
                    &chain.roots,
                    intermediates,
                    now,
                    algorithms,
                )?;
            }
            if self.name {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Makes TLS connections for tokio-postgres, or none.
#[derive(Clone)]
pub(super) struct Connector {
    config: Option<Arc<ClientConfig>>,
}

/// The same for one host.
pub(super) struct ToHost {
    config: Option<Arc<ClientConfig>>,
    host: String,
}

/// An encrypted connection.
pub(super) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.config.is_some() { "Connector(TLS)" } else { "Connector(plain)" })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Connector {
    type Stream = Stream<S>;
    type TlsConnect = ToHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<ToHost> {
        Ok(ToHost { config: self.config.clone(), host: domain.to_owned() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for ToHost {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or_else(|| io::Error::other("sslmode is disable"))?;
            // The absolute form of a name is no part of certificates.
            let name = self.host.strip_suffix('.').unwrap_or(&self.host).to_owned();
            let name = ServerName::try_from(name).map_err(|_| {
                io::Error::other("the host's name cannot be a certificate's; give another, or its address")
            })?;
            tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map(Stream)
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, connection) = self.0.get_ref();
        connection
            .peer_certificates()
            .and_then(|chain| tls_server_end_point(chain.first()?))
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(text: &str) -> Result<Tls, String> {
        let mut info = Conninfo::parse(text).map_err(|fault| format!("{fault:?}"))?;
        Tls::from_conninfo(&mut info).map_err(|error| error.to_string())
    }

    #[test]
    fn the_modes_are_libpqs() {
        for (text, mode) in [
            ("host=h", Mode::Prefer),
            ("host=h sslmode=disable", Mode::Disable),
            ("host=h sslmode=require", Mode::Require),
            ("host=h sslmode=require sslrootcert=/ca", Mode::VerifyCa),
            ("host=h sslmode=verify-ca sslrootcert=/ca", Mode::VerifyCa),
            ("host=h sslmode=verify-full sslrootcert=/ca", Mode::VerifyFull),
            ("host=h sslrootcert=system", Mode::VerifyFull),
        ] {
            assert_eq!(tls(text).map(|tls| tls.mode), Ok(mode), "{text}");
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_told() {
        for (text, told) in [
            ("host=h sslmode=verify-full", "need sslrootcert"),
            ("host=h sslmode=allow", "sslmode has to be"),
            ("host=h sslmode=require sslrootcert=system", "verify-full only"),
            ("host=h sslcert=/c", "go together"),
        ] {
            let error = tls(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        let error =
            tls("host=h sslmode=verify-ca sslrootcert=/nonexistent").unwrap().connector().unwrap_err();
        assert!(error.to_string().contains("sslrootcert /nonexistent: No such file"), "{error}");
    }
}
