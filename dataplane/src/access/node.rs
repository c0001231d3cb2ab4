//! Where a try went, as a record holds it: flat and of a fixed size, so that it is copied and nothing of another core is touched.

use std::net::SocketAddr;

use ringway_engine::upstream::Address;

/// Of the path of a Unix socket, so many bytes are told.
const PATH_BYTES_MAX: usize = 46;

/// A node's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Node {
    #[default]
    Nowhere,
    Tcp(SocketAddr),
    Unix(Path),
}

/// A path, cut where it is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    bytes: [u8; PATH_BYTES_MAX],
    length: u8,
    pub(crate) cut: bool,
}

impl Path {
    pub(crate) fn new(path: &[u8], cut: bool) -> Path {
        let mut bytes = [0; PATH_BYTES_MAX];
        bytes.iter_mut().zip(path).for_each(|(to, from)| *to = *from);
        let length = u8::try_from(path.len().min(PATH_BYTES_MAX)).unwrap_or(0);
        Path { bytes, length, cut: cut || path.len() > PATH_BYTES_MAX }
    }

    pub(crate) fn text(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl From<&Address> for Node {
    fn from(address: &Address) -> Node {
        match address {
            Address::Tcp(address) => Node::Tcp(*address),
            Address::Unix(path) => Node::Unix(Path::new(path.as_bytes(), false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_cut_and_says_so() {
        let short = Path::new(b"/run/a.sock", false);
        assert_eq!((short.text(), short.cut), (&b"/run/a.sock"[..], false));
        let long = Path::new(&[b'x'; 100], false);
        assert_eq!((long.text().len(), long.cut), (PATH_BYTES_MAX, true));
    }
}
