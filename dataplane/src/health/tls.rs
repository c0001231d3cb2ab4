//! TLS of probes: whom they trust, and one session as bytes in and bytes out.
//!
//! rustls does no I/O of its own here, so that a probe's deadline is its socket's, as without TLS. No session is resumed: each probe looks at the certificate
//! anew. What a node may send before its answer is bounded. The trusted certificates are the system's, or those of `SSL_CERT_FILE`; a change of
//! the file is seen within [`ROOTS_KEPT`].
//!
//! Invariant: with verification nothing is sent to a node whose certificate is not of a trusted authority and made out to the name.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_engine::upstream::{Lack, ProbeFault};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// Where distributions keep the certificates that the system trusts.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// What OpenSSL and others take in place of these.
const ROOTS_VARIABLE: &str = "SSL_CERT_FILE";
/// For so long the trusted certificates are not read again.
const ROOTS_KEPT: Duration = Duration::from_secs(300);
/// What a node may send in a probe: a handshake with a long chain, and a status line.
const RECEIVED_BYTES_MAX: usize = 256 * 1024;

/// Whom probes trust.
#[derive(Debug)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    verifying: Option<(Instant, Arc<ClientConfig>)>,
    blind: Option<Arc<ClientConfig>>,
    /// That there are no roots has been said.
    told: bool,
}

/// One TLS session.
#[derive(Debug)]
pub(super) struct Session {
    connection: ClientConnection,
    received_bytes: usize,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust { provider: Arc::new(ring::default_provider()), verifying: None, blind: None, told: false }
    }
}

impl Trust {
    /// A session with a node of this name, or what the gateway lacks for one.
    pub(super) fn session(&mut self, name: &str, verify: bool) -> Result<Session, Lack> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| Lack::Name)?;
        let config = if verify { self.verifying()? } else { self.blind()? };
        let mut connection = ClientConnection::new(config, name).map_err(|_| Lack::Name)?;
        // What is sent is bounded by the size of an object.
        connection.set_buffer_limit(None);
        Ok(Session { connection, received_bytes: 0 })
    }

    fn verifying(&mut self) -> Result<Arc<ClientConfig>, Lack> {
        let known = self.verifying.as_ref();
        if let Some((_, config)) = known.filter(|(read_at, _)| read_at.elapsed() < ROOTS_KEPT) {
            return Ok(Arc::clone(config));
        }
        let read = roots().and_then(|roots| self.config(|builder| builder.with_root_certificates(roots)));
        match (read, known) {
            (Some(config), _) => {
                self.told = false;
                self.verifying = Some((Instant::now(), Arc::clone(&config)));
                Ok(config)
            }
            // A file that is being replaced may be unreadable for a moment.
            (None, Some((_, config))) => Ok(Arc::clone(config)),
            (None, None) => {
                if !std::mem::replace(&mut self.told, true) {
                    let places = given_roots()
                        .map_or_else(|| SYSTEM_ROOTS.join(", "), |path| path.display().to_string());
                    tracing::error!(
                        "HTTPS probes are not made: no trusted certificates in {places}; name a file of them in {ROOTS_VARIABLE}"
                    );
                }
                Err(Lack::Roots)
            }
        }
    }

    fn blind(&mut self) -> Result<Arc<ClientConfig>, Lack> {
        if let Some(config) = &self.blind {
            return Ok(Arc::clone(config));
        }
        let anyone = Arc::new(Anyone(Arc::clone(&self.provider)));
        let config = self
            .config(|builder| builder.dangerous().with_custom_certificate_verifier(anyone))
            .ok_or(Lack::Roots)?;
        self.blind = Some(Arc::clone(&config));
        Ok(config)
    }

    fn config(
        &self,
        trust: impl FnOnce(
            rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>,
        ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    ) -> Option<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .ok()?;
        let mut config = trust(builder).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Some(Arc::new(config))
    }
}

impl Session {
    /// Whether the handshake is still under way.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes what is to be sent once the handshake is over.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.writer().write_all(bytes)
    }

    /// What goes to the node now; nothing when it is the node's turn.
    pub(super) fn outgoing(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Takes what came from the node, and appends what of it is the answer.
    pub(super) fn incoming(&mut self, mut bytes: &[u8], answer: &mut Vec<u8>) -> Result<(), ProbeFault> {
        self.received_bytes = self.received_bytes.saturating_add(bytes.len());
        while !bytes.is_empty() {
            match self.connection.read_tls(&mut bytes) {
                // It has ended its side: what still comes is nothing.
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return Err(ProbeFault::Handshake),
            }
            let state = self.connection.process_new_packets().map_err(|error| fault(&error))?;
            let plain = state.plaintext_bytes_to_read();
            let mut reader = self.connection.reader().take(u64::try_from(plain).unwrap_or(u64::MAX));
            reader.read_to_end(answer).map_err(|_| ProbeFault::Broken)?;
        }
        if self.received_bytes > RECEIVED_BYTES_MAX { Err(ProbeFault::Handshake) } else { Ok(()) }
    }
}

/// The trusted certificates; `None`: there are none.
fn roots() -> Option<Arc<RootCertStore>> {
    let read = |path: &Path| {
        let mut store = RootCertStore::empty();
        let given = CertificateDer::pem_file_iter(path).ok()?.filter_map(Result::ok);
        let (added, _) = store.add_parsable_certificates(given);
        (added > 0).then_some(store)
    };
    let store = match given_roots() {
        Some(path) => read(&path),
        None => SYSTEM_ROOTS.iter().find_map(|path| read(Path::new(path))),
    };
    store.map(Arc::new)
}

fn given_roots() -> Option<PathBuf> {
    std::env::var_os(ROOTS_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn fault(error: &rustls::Error) -> ProbeFault {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => ProbeFault::Expired,
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => ProbeFault::NotYetValid,
            Bad::UnknownIssuer => ProbeFault::UnknownIssuer,
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => ProbeFault::WrongName,
            _ => ProbeFault::Certificate,
        },
        rustls::Error::InvalidMessage(_) => ProbeFault::NotTls,
        rustls::Error::AlertReceived(_) => ProbeFault::Refused,
        _ => ProbeFault::Handshake,
    }
}

/// Takes every certificate, for `https_verify_certificate: false`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
