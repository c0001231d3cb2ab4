//! Which pages of other origins may use the Admin API (`--admin-cors-origins`): none unless they are named.
//!
//! What a browser is let do then, it still does with a key alone: credentials that a browser adds by itself (the key's cookie) are not
//! allowed along, nor looked at where they come along unasked, so that no page can act for somebody who is logged in elsewhere. A preflight
//! has no key, tells nothing, and changes nothing.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response};

/// Every answer to an origin that is let in; methods and age are APISIX's.
const FIELDS: [(HeaderName, HeaderValue); 4] = [
    (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, PUT, OPTIONS, DELETE, PATCH")),
    (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*")),
    (ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*")),
    (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600")),
];

/// The origins that are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// None.
    #[default]
    None,
    /// Any.
    Any,
    /// These.
    Listed(Vec<String>),
}

impl Origins {
    /// Reads a list with commas, or `*`; an error is the part that is no origin.
    pub fn parse(text: &str) -> Result<Origins, String> {
        if text.trim() == "*" {
            return Ok(Origins::Any);
        }
        let mut listed = Vec::new();
        for origin in text.split(',').map(str::trim).filter(|origin| !origin.is_empty()) {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let is_origin = host.is_some_and(|host| {
                !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*\\".contains(&byte))
            });
            if !is_origin {
                return Err(origin.to_owned());
            }
            listed.push(origin.to_ascii_lowercase());
        }
        Ok(if listed.is_empty() { Origins::None } else { Origins::Listed(listed) })
    }

    /// Whether this is a browser's question whether it may ask, which has no key.
    pub(super) fn answers(&self, method: &Method) -> bool {
        *self != Origins::None && *method == Method::OPTIONS
    }

    /// Who asked, if that origin is let in.
    pub(super) fn admitted(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        match self {
            Origins::None => None,
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Listed(listed) => {
                let origin = asked.get(ORIGIN)?;
                let text = origin.to_str().ok()?.to_ascii_lowercase();
                listed.contains(&text).then(|| origin.clone())
            }
        }
    }

    /// Adds to an answer what lets that origin read it.
    pub(super) fn tell(&self, admitted: Option<HeaderValue>, response: &mut Response<Body>) {
        if let Origins::Listed(_) = self {
            response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = admitted {
            response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.headers_mut().extend(FIELDS);
        }
    }
}

/// Whether a browser asks for a page of another origin. Some requests it sends without asking first, and adds its cookies to them: what
/// stands there then says nothing about who wants it.
pub(super) fn is_of_another_page(asked: &HeaderMap) -> bool {
    let site = asked.get("sec-fetch-site");
    let is_own_site = site.is_none_or(|site| site == "same-origin" || site == "none");
    let is_own_origin = asked.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let place = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let host = asked.get(HOST).and_then(|host| host.to_str().ok());
        place.zip(host).is_some_and(|(place, host)| place.eq_ignore_ascii_case(host))
    });
    !(is_own_site && is_own_origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_and_nothing_else_is() {
        assert_eq!(Origins::parse("*"), Ok(Origins::Any));
        assert_eq!(Origins::parse(""), Ok(Origins::None));
        let listed = Origins::parse("https://Ops.example.com, http://localhost:3000").unwrap();
        assert_eq!(
            listed,
            Origins::Listed(vec!["https://ops.example.com".into(), "http://localhost:3000".into()])
        );
        for bad in ["ops.example.com", "https://", "https://a/b", "https://*.a", "null", "*, https://a"] {
            assert!(Origins::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_those_listed_are_let_in() {
        let listed = Origins::parse("https://a").unwrap();
        let from = |origin: &'static str| HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        assert!(listed.admitted(&from("https://a")).is_some());
        assert!(listed.admitted(&from("https://a.evil")).is_none());
        assert!(listed.admitted(&from("null")).is_none() && listed.admitted(&HeaderMap::new()).is_none());
        assert!(Origins::None.admitted(&from("https://a")).is_none());
        assert!(!Origins::None.answers(&Method::OPTIONS) && listed.answers(&Method::OPTIONS));
    }
}
