//! `/ui/`: the dashboard. A page, its style and its script, part of this program; nothing is fetched from elsewhere.
//!
//! The files hold no data and need no key. What they show they ask of the API like any other client, with the key that is typed into the page. The policy
//! below lets the browser run nothing but the script served here, so that a name in the configuration cannot become code.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode};

/// Where it is.
const ROOT: &str = "/ui/";
/// Scripts, styles, pictures and questions to this origin alone; no frame around it, no form that leaves it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const FILES: [(&str, &str, &str); 6] = [
    ("", "text/html; charset=utf-8", include_str!("ui/index.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("ui/style.css")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("ui/app.js")),
    ("views.js", "text/javascript; charset=utf-8", include_str!("ui/views.js")),
    ("parts.js", "text/javascript; charset=utf-8", include_str!("ui/parts.js")),
    ("icon.svg", "image/svg+xml", include_str!("ui/icon.svg")),
];

/// The answer to a request for the dashboard; `None` where it is for something else.
pub(super) fn answer(method: &Method, path: &str) -> Option<Response<Body>> {
    if path == ROOT.trim_end_matches('/') {
        return Some(response(StatusCode::PERMANENT_REDIRECT, "text/plain", "", &[(LOCATION, ROOT)]));
    }
    let name = path.strip_prefix(ROOT)?;
    if *method != Method::GET && *method != Method::HEAD {
        return Some(response(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "the dashboard is only read\n",
            &[],
        ));
    }
    let Some((_, kind, text)) = FILES.iter().find(|(known, _, _)| *known == name) else {
        return Some(response(StatusCode::NOT_FOUND, "text/plain", "the dashboard is at /ui/\n", &[]));
    };
    Some(response(StatusCode::OK, kind, text, &[]))
}

fn response(
    status: StatusCode,
    kind: &'static str,
    text: &'static str,
    more: &[(HeaderName, &'static str)],
) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let fields = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // An upgrade of the control plane must not leave an old script with a new page.
        (CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in fields.iter().chain(more) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<Response<Body>> {
        answer(&Method::GET, path)
    }

    #[test]
    fn the_page_and_its_files_are_served_with_the_policy_and_nothing_else_is() {
        for path in ["/ui/", "/ui/app.js", "/ui/style.css"] {
            let page = get(path).unwrap();
            assert_eq!(page.status(), StatusCode::OK);
            let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe")
            );
        }
        assert_eq!(get("/ui").unwrap().headers()[LOCATION], ROOT);
        assert_eq!(get("/ui/../admin.key").unwrap().status(), StatusCode::NOT_FOUND);
        assert!(get("/apisix/admin/routes").is_none() && get("/uix").is_none());
        assert_eq!(answer(&Method::POST, "/ui/").unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn nothing_stands_inline_and_nothing_is_made_of_text_that_could_be_markup() {
        for (name, _, text) in FILES {
            let handlers = ["onclick=", "onload=", "onsubmit=", "style=\"", "<style", "javascript:"];
            let sinks =
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"];
            let elsewhere = ["https://", "http://"];
            for word in handlers.iter().chain(&sinks).chain(&elsewhere) {
                let is_namespace = name == "icon.svg"
                    || text.matches(word).count() == text.matches("http://www.w3.org/2000/svg").count();
                assert!(!text.contains(word) || (*word == "http://" && is_namespace), "{name}: {word}");
            }
        }
        let page = FILES[0].2;
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
    }
}
