//! TLS on the Admin API's address: a certificate and its key, and optionally the CA whose client certificates are let in.
//!
//! The files are looked at every few seconds, so that a renewed certificate serves without a restart. A pair that does not fit together,
//! as it stands there in the middle of a renewal, or a file that cannot be read, leaves the one before in force and is told
//! once. At the start it ends the start.
//!
//! TLS 1.2 and 1.3 by rustls. A client's certificate is asked for in addition to its key, never instead of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::source::postgresql::SYSTEM_ROOTS;

/// How often the files are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// For a client to finish the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Bytes of one of the files.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and what leads from it to its root, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, without a passphrase.
    pub key: PathBuf,
    /// Whose client certificates are let in; `None` asks for none.
    pub client_ca: Option<PathBuf>,
}

/// Whom a client of the API trusts, and what it shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsTrust {
    /// The CA of the API's certificate, PEM; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and its key, PEM.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Why TLS cannot be had with these files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Admin API's {what} {} cannot be used: {reason}", .path.display())]
pub struct TlsError {
    what: &'static str,
    path: PathBuf,
    reason: String,
}

impl TlsTrust {
    /// What a client connects with.
    pub fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let ca = match &self.ca {
            Some(ca) => ca.clone(),
            None => {
                SYSTEM_ROOTS.into_iter().map(PathBuf::from).find(|path| path.exists()).unwrap_or_default()
            }
        };
        let wrong = |what, path: &Path, reason: String| TlsError { what, path: path.to_owned(), reason };
        let read = |what, path: &Path| {
            let bytes = std::fs::read(path).map_err(|error| wrong(what, path, error.to_string()))?;
            certificates(&bytes).map_err(|reason| wrong(what, path, reason))
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(read("CA", &ca)?);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("CA", &ca, error.to_string()))?
            .with_root_certificates(roots);
        let config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let what = "client certificate";
                let chain = read(what, certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| wrong("client key", key, error.to_string()))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| wrong(what, certificate, error.to_string()))?
            }
        };
        Ok(Arc::new(config))
    }
}

/// What is in force, and what the files held when they were last looked at.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    now: Mutex<(Arc<ServerConfig>, Seen)>,
}

/// The files' bytes. A key is in memory anyway while it serves.
#[derive(PartialEq, Eq)]
struct Seen(Vec<Result<Vec<u8>, String>>);

/// They hold a key.
impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seen")
    }
}

impl Tls {
    /// Reads the files; what is wrong with them ends the start.
    pub(super) fn new(files: TlsFiles) -> Result<Tls, TlsError> {
        let seen = seen(&files);
        let config = configure(&files, &seen)?;
        Ok(Tls { files, now: Mutex::new((config, seen)) })
    }

    /// Looks whether the files have changed, and takes what they hold if it can be served.
    pub(super) fn look(&self) {
        let seen = seen(&self.files);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.1 == seen {
            return;
        }
        match configure(&self.files, &seen) {
            Ok(config) => {
                now.0 = config;
                tracing::info!(certificate = %self.files.certificate.display(), "the Admin API serves the renewed certificate");
            }
            Err(error) => tracing::error!("{error}; the one before stays in force"),
        }
        now.1 = seen;
    }

    /// A client's handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner).0);
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
        timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(stream)).await.map_err(late)?
    }
}

fn seen(files: &TlsFiles) -> Seen {
    let read = |path: &Path| match std::fs::metadata(path) {
        Ok(facts) if facts.len() > FILE_BYTES_MAX => Err(format!("is larger than {FILE_BYTES_MAX} bytes")),
        _ => std::fs::read(path).map_err(|error| error.to_string()),
    };
    let paths = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    Seen(paths.into_iter().flatten().map(|path| read(path)).collect())
}

fn configure(files: &TlsFiles, seen: &Seen) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |what, path: &Path, reason: String| TlsError { what, path: path.to_owned(), reason };
    let bytes = |at: usize, what, path: &Path| match seen.0.get(at) {
        Some(Ok(bytes)) => Ok(bytes.as_slice()),
        Some(Err(reason)) => Err(wrong(what, path, reason.clone())),
        None => Err(wrong(what, path, "was not read".to_owned())),
    };
    let chain = certificates(bytes(0, "certificate", &files.certificate)?)
        .map_err(|reason| wrong("certificate", &files.certificate, reason))?;
    let key = PrivateKeyDer::from_pem_slice(bytes(1, "key", &files.key)?)
        .map_err(|error| wrong("key", &files.key, format!("holds no key in PEM: {error}")))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("certificate", &files.certificate, error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let what = "CA of client certificates";
            let mut roots = RootCertStore::empty();
            for root in certificates(bytes(2, what, path)?).map_err(|reason| wrong(what, path, reason))? {
                roots.add(root).map_err(|error| wrong(what, path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(what, path, error.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        wrong("certificate", &files.certificate, format!("{error} (its key: {})", files.key.display()))
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Err(error) => Err(error.to_string()),
        Ok(found) if found.is_empty() => Err("holds no certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
    }
}
