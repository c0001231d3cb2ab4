//! Certificates for tests.
#![allow(dead_code, unreachable_pub, reason = "each test crate includes this file and uses a part of it")]

use std::path::PathBuf;
use std::process::Command;

use crate::program;

/// A folder of certificates and keys, made by openssl.
pub struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    /// An empty one.
    pub fn new() -> Authority {
        Authority { directory: program::directory() }
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate that signs itself: a CA's.
    pub fn root(&self, name: &str, more: &[&str]) -> &Authority {
        self.openssl(
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "30",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &format!("{name}.key"),
                "-out",
                &format!("{name}.crt"),
            ],
            more,
        );
        self
    }

    /// A certificate that `ca` signs.
    pub fn signed(&self, ca: &str, name: &str, extension: &str) -> &Authority {
        let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
        self.openssl(
            &[
                "req",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &key,
                "-out",
                &request,
            ],
            &[],
        );
        std::fs::write(self.path("extension"), extension).unwrap();
        self.openssl(
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &format!("{ca}.crt"),
                "-CAkey",
                &format!("{ca}.key"),
                "-CAcreateserial",
                "-days",
                "30",
                "-extfile",
                "extension",
                "-out",
                &format!("{name}.crt"),
            ],
            &[],
        );
        self
    }

    fn openssl(&self, arguments: &[&str], more: &[&str]) {
        let mut command = Command::new("openssl");
        command.current_dir(self.directory.path()).args(arguments).args(more);
        let output = command.output().expect("openssl is on this machine");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
