//! The channel binding `tls-server-end-point` of RFC 5929 section 4.1: a hash of the server's certificate.
//!
//! SCRAM-SHA-256-PLUS mixes it into the password's proof, so that somebody between client and server who ends TLS with another
//! certificate cannot pass the proof on, even where no certificate is verified. The hash function is that of the certificate's
//! signature, and SHA-256 where that is MD5 or SHA-1. A signature that names no hash (Ed25519, RSA-PSS) gives no binding.
//!
//! Only as much of DER is read as leads to the signature's name: `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm
//! SEQUENCE { OBJECT IDENTIFIER, ... }, ... }` (RFC 5280 section 4.1).

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// 1.2.840.113549.1.1: RSA with PKCS #1; the last number names the hash.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4.3: ECDSA with SHA-2.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];

/// The binding for a certificate in DER, where there is one.
pub(super) fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = hash_of_signature(certificate)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of_signature(certificate: &[u8]) -> Option<&'static Algorithm> {
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (_, after_tbs) = element(whole, SEQUENCE)?;
    let (signature, _) = element(after_tbs, SEQUENCE)?;
    let (name, _) = element(signature, OBJECT_IDENTIFIER)?;
    let (last, family) = name.split_last()?;
    match (family, last) {
        // MD5 and SHA-1 count as SHA-256.
        (RSA, 4 | 5 | 11) | (ECDSA, 2) => Some(&SHA256),
        (RSA, 12) | (ECDSA, 3) => Some(&SHA384),
        (RSA, 13) | (ECDSA, 4) => Some(&SHA512),
        _ => None,
    }
}

/// The content of the element at the start, if it is of that kind, and what stands after it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A certificate is shorter than 16 MiB: at most three bytes of length.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (found == tag).then_some((content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate's skeleton: an empty body and the signature's name.
    fn skeleton(family: &[u8], last: u8) -> Vec<u8> {
        let name_length = u8::try_from(family.len() + 1).unwrap();
        let name = [&[OBJECT_IDENTIFIER, name_length][..], family, &[last]].concat();
        let signature = [&[SEQUENCE, u8::try_from(name.len()).unwrap()][..], &name].concat();
        let body = [&[SEQUENCE, 0][..], &signature].concat();
        [&[SEQUENCE, 0x81, u8::try_from(body.len()).unwrap()][..], &body].concat()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (family, last, bytes) in [
            (RSA, 11, 32),
            (RSA, 5, 32),
            (RSA, 12, 48),
            (RSA, 13, 64),
            (ECDSA, 2, 32),
            (ECDSA, 3, 48),
            (ECDSA, 4, 64),
        ] {
            assert_eq!(tls_server_end_point(&skeleton(family, last)).map(|hash| hash.len()), Some(bytes));
        }
        assert_eq!(tls_server_end_point(&skeleton(RSA, 10)), None, "RSA-PSS names its hash elsewhere");
        assert_eq!(tls_server_end_point(&skeleton(&[0x2b, 0x65], 0x70)), None, "Ed25519 has none");
    }

    #[test]
    fn what_is_no_certificate_gives_none_and_no_panic() {
        let good = skeleton(RSA, 11);
        for end in 0..good.len() {
            assert_eq!(hash_of_signature(&good[..end]).map(|_| ()), None);
        }
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 0xff;
            let _ = tls_server_end_point(&bad);
        }
    }
}
