//! Frames of the local socket and of the snapshot on disk.
//!
//! `magic "RWAY" · schema u16 · kind u8 · 0 u8 · length u32 · checksum u64 · payload`, integers little-endian; the
//! checksum is xxh3-64 over the first 12 bytes and the payload. A reader learns the payload's length from [`Header::decode`]
//! and may then refuse before it allocates.

use xxhash_rust::xxh3::Xxh3;

use crate::limits::FRAME_BYTES_MAX;
use crate::model::Kind;

/// The highest schema number that this build reads and writes. A change of any type that travels is a new number.
///
/// 2 has what 1 has, and deltas: [`Delta`](crate::message::ToDataplane::Delta), [`Serves`](crate::message::ToControlplane::Serves)
/// and [`Reason::Base`](crate::message::Reason::Base).
///
/// 3 has what 2 has, and the kinds [`PluginConfig`](crate::model::PluginConfig) and [`GlobalRule`](crate::model::GlobalRule). What holds
/// none of them is the same bytes as before.
///
/// 4 has what 3 has, and the kinds [`Consumer`](crate::model::Consumer), [`Credential`](crate::model::Credential) and
/// [`ConsumerGroup`](crate::model::ConsumerGroup).
pub const SCHEMA: u16 = 4;
/// The lowest schema number that this build still reads and writes. A `Hello` has it always, so that any peer reads it.
pub const SCHEMA_MIN: u16 = 1;
/// The first schema number with deltas.
pub const SCHEMA_DELTA: u16 = 2;
/// The first schema number with plugin configurations and global rules.
pub const SCHEMA_PLUGINS: u16 = 3;
/// The first schema number with consumers, credentials and consumer groups.
pub const SCHEMA_CONSUMERS: u16 = 4;
/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 20;

const MAGIC: [u8; 4] = *b"RWAY";

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A [`crate::message::ToDataplane`].
    ToDataplane = 1,
    /// A [`crate::message::ToControlplane`].
    ToControlplane = 2,
    /// A [`crate::Snapshot`] on disk.
    Disk = 3,
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Schema number of the payload.
    pub schema: u16,
    /// What the payload is.
    pub kind: FrameKind,
    /// Bytes of the payload.
    pub payload_bytes: usize,
    checksum: u64,
}

/// Why bytes are not a frame of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another program speaks.
    #[error("not a Ringway frame (bad magic)")]
    Magic,
    /// Another release speaks.
    #[error("schema {0} is not among the ones this build reads ({SCHEMA_MIN} to {SCHEMA})")]
    Schema(u16),
    /// Unknown kind.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// Not the kind that belongs here.
    #[error("a frame of kind {0:?} does not belong here")]
    UnexpectedKind(FrameKind),
    /// Too large.
    #[error("frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLarge(usize),
    /// Cut short.
    #[error("the frame ends early: {have} of {want} bytes")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        want: usize,
    },
    /// Bytes changed on the way.
    #[error("checksum mismatch: the bytes were damaged")]
    Checksum,
    /// The payload is not what its kind says.
    #[error("payload does not decode: {0}")]
    Payload(postcard::Error),
}

impl Header {
    /// Reads a header.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let [m0, m1, m2, m3, s0, s1, kind, _reserved, l0, l1, l2, l3, sum @ ..] = *bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(FrameError::Magic);
        }
        let schema = u16::from_le_bytes([s0, s1]);
        if !(SCHEMA_MIN..=SCHEMA).contains(&schema) {
            return Err(FrameError::Schema(schema));
        }
        let kind = match kind {
            1 => FrameKind::ToDataplane,
            2 => FrameKind::ToControlplane,
            3 => FrameKind::Disk,
            other => return Err(FrameError::Kind(other)),
        };
        let payload_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if payload_bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge(payload_bytes));
        }
        Ok(Header { schema, kind, payload_bytes, checksum: u64::from_le_bytes(sum) })
    }

    /// Checks a payload against this header and decodes it.
    pub fn open<T: serde::de::DeserializeOwned>(
        &self,
        kind: FrameKind,
        payload: &[u8],
    ) -> Result<T, FrameError> {
        if self.kind != kind {
            return Err(FrameError::UnexpectedKind(self.kind));
        }
        if payload.len() != self.payload_bytes {
            return Err(FrameError::Truncated { have: payload.len(), want: self.payload_bytes });
        }
        if checksum(&prefix(self.schema, self.kind, self.payload_bytes), payload) != self.checksum {
            return Err(FrameError::Checksum);
        }
        postcard::from_bytes(payload).map_err(FrameError::Payload)
    }
}

/// The highest schema number that both this build and a peer of that range speak.
pub fn common_schema(peer_min: u16, peer_max: u16) -> Option<u16> {
    let highest = SCHEMA.min(peer_max);
    (highest >= SCHEMA_MIN.max(peer_min)).then_some(highest)
}

/// The first schema number that has objects of a kind.
pub fn schema_of(kind: Kind) -> u16 {
    match kind {
        Kind::PluginConfig | Kind::GlobalRule => SCHEMA_PLUGINS,
        Kind::Consumer | Kind::Credential | Kind::ConsumerGroup => SCHEMA_CONSUMERS,
        _ => SCHEMA_MIN,
    }
}

/// A value as one frame of the lowest schema number, header and payload.
pub fn encode<T: serde::Serialize>(kind: FrameKind, value: &T) -> Result<Vec<u8>, FrameError> {
    encode_as(SCHEMA_MIN, kind, value)
}

/// A value as one frame of that schema number. Whoever writes takes care that the number has the value.
pub fn encode_as<T: serde::Serialize>(
    schema: u16,
    kind: FrameKind,
    value: &T,
) -> Result<Vec<u8>, FrameError> {
    let mut bytes = postcard::to_extend(value, vec![0; HEADER_BYTES]).map_err(FrameError::Payload)?;
    let payload_bytes = bytes.len().saturating_sub(HEADER_BYTES);
    if payload_bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(payload_bytes));
    }
    let prefix = prefix(schema, kind, payload_bytes);
    if let Some((header, payload)) = bytes.split_at_mut_checked(HEADER_BYTES) {
        let sum = checksum(&prefix, payload);
        let (first, last) = header.split_at_mut(prefix.len());
        first.copy_from_slice(&prefix);
        last.copy_from_slice(&sum.to_le_bytes());
    }
    Ok(bytes)
}

/// Decodes one frame that is all of `bytes`, as on disk.
pub fn decode<T: serde::de::DeserializeOwned>(kind: FrameKind, bytes: &[u8]) -> Result<T, FrameError> {
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FrameError::Truncated { have: bytes.len(), want: HEADER_BYTES });
    };
    Header::decode(header)?.open(kind, payload)
}

fn prefix(schema: u16, kind: FrameKind, payload_bytes: usize) -> [u8; 12] {
    let mut prefix = [0; 12];
    prefix[..4].copy_from_slice(&MAGIC);
    prefix[4..6].copy_from_slice(&schema.to_le_bytes());
    prefix[6] = kind as u8;
    // At most FRAME_BYTES_MAX, checked by the callers, so that it fits.
    prefix[8..].copy_from_slice(&u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_le_bytes());
    prefix
}

fn checksum(prefix: &[u8; 12], payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(prefix);
    hasher.update(payload);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_through_a_frame() {
        let bytes = encode(FrameKind::Disk, &(7u32, "seven")).unwrap();
        assert_eq!(decode::<(u32, String)>(FrameKind::Disk, &bytes), Ok((7, "seven".to_owned())));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let bytes = encode(FrameKind::Disk, &vec![1u8, 2, 3, 200]).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode::<Vec<u8>>(FrameKind::Disk, &bytes[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            if bit / 8 == 7 {
                continue; // The reserved byte is not looked at, so that a later release may use it.
            }
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<Vec<u8>>(FrameKind::Disk, &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn peers_speak_the_highest_number_that_both_know() {
        assert_eq!(common_schema(1, 1), Some(1));
        assert_eq!(common_schema(1, 2), Some(2));
        assert_eq!(common_schema(2, 9), Some(SCHEMA));
        assert_eq!(common_schema(SCHEMA + 1, SCHEMA + 1), None);
        assert_eq!(common_schema(0, 0), None);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_read() {
        let mut bytes = encode(FrameKind::Disk, &1u8).unwrap();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let header: [u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().unwrap();
        assert_eq!(Header::decode(&header), Err(FrameError::TooLarge(u32::MAX as usize)));
    }
}
