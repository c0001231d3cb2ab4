//! Sets of request methods as one word.
//!
//! A set either names methods of [`Method`] or holds all, including tokens that nobody has named.

use ringway_snapshot::model::Method;

/// Which methods a rule takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MethodSet(u16);

/// Stands for every token that is not in [`Method::ALL`].
const UNKNOWN: u16 = 1 << 15;

impl MethodSet {
    /// Every method, known or not.
    pub const ALL: MethodSet = MethodSet(u16::MAX);
    /// No method.
    pub const NONE: MethodSet = MethodSet(0);

    /// The set that a request's method token asks for. Methods are case-sensitive (RFC 9110 section 9.1).
    pub fn of_token(token: &[u8]) -> MethodSet {
        Method::ALL
            .into_iter()
            .find(|method| method.name().as_bytes() == token)
            .map_or(MethodSet(UNKNOWN), MethodSet::from)
    }

    /// The set that a route's `methods` field means: none given is all.
    pub fn of_field(methods: Option<&[Method]>) -> MethodSet {
        methods.map_or(MethodSet::ALL, |methods| methods.iter().copied().collect())
    }

    /// Whether the two sets share a method.
    pub fn intersects(self, other: MethodSet) -> bool {
        self.0 & other.0 != 0
    }
}

impl From<Method> for MethodSet {
    fn from(method: Method) -> MethodSet {
        MethodSet(match method {
            Method::Get => 1,
            Method::Head => 1 << 1,
            Method::Post => 1 << 2,
            Method::Put => 1 << 3,
            Method::Delete => 1 << 4,
            Method::Connect => 1 << 5,
            Method::Options => 1 << 6,
            Method::Trace => 1 << 7,
            Method::Patch => 1 << 8,
            Method::Purge => 1 << 9,
            Method::Query => 1 << 10,
        })
    }
}

impl FromIterator<Method> for MethodSet {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> MethodSet {
        methods.into_iter().fold(MethodSet::NONE, |set, method| MethodSet(set.0 | MethodSet::from(method).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_bit_of_its_own() {
        let all: MethodSet = Method::ALL.into_iter().collect();
        assert_eq!(all.0.count_ones() as usize, Method::ALL.len());
        for method in Method::ALL {
            let set = MethodSet::of_field(Some(&[method]));
            assert_eq!(MethodSet::of_token(method.name().as_bytes()), set);
            assert!(!set.intersects(MethodSet::of_token(b"FOO")));
        }
    }

    #[test]
    fn tokens_nobody_named_and_other_cases_fit_only_the_full_set() {
        for token in ["FOO", "get", ""] {
            let asked = MethodSet::of_token(token.as_bytes());
            assert!(MethodSet::of_field(None).intersects(asked), "{token}");
            assert!(!Method::ALL.into_iter().collect::<MethodSet>().intersects(asked), "{token}");
        }
    }
}
