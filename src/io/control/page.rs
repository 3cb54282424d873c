//! What the listener shows of itself: the page for people at `/`, and the description for programs at `/openapi.json`.
//! Neither holds anything of a call, so both come without a token; the page asks for it.

use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// `GET /`.
pub(super) async fn page() -> Response {
    let policy = HeaderValue::from_str(&POLICY).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let headers = [
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Html(PAGE)).into_response()
}

/// `GET /openapi.json`.
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], OPENAPI).into_response()
}

const PAGE: &str = include_str!("page.html");
const OPENAPI: &str = include_str!("openapi.json");

/// Content Security Policy: the page's one script and one style, by their hashes, and requests to where it comes from.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| STANDARD.encode(Sha256::digest(between(tag)));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
});

fn between(tag: &str) -> &'static str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let inner = PAGE.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    inner.map_or("", |(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_writes_text_as_text() {
        for tag in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert!(between(tag).len() > 500);
        }
        for forbidden in [
            "http://",
            "https://",
            "src=",
            "href=",
            "url(",
            "@import",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "<link",
            "<img",
            "<iframe",
            "onclick=",
            "style=",
            "localStorage",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        // Every place that the script writes to is there.
        let mut rest = between("script");
        while let Some((_, after)) = rest.split_once("at(\"") {
            let id = after.split('"').next().unwrap();
            assert_eq!(PAGE.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
            rest = after;
        }
        assert!(POLICY.starts_with("default-src 'none'; script-src 'sha256-"));
    }

    /// Each reference leads somewhere, and each part is used.
    #[test]
    fn the_description_is_whole_and_of_this_version() {
        let description: Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut used = Vec::new();
        references(&description, &mut used);
        for reference in &used {
            let found = description.pointer(reference.strip_prefix('#').unwrap());
            assert!(found.is_some(), "{reference}");
        }
        for (kind, parts) in description["components"].as_object().unwrap() {
            for name in parts.as_object().unwrap().keys() {
                let reference = format!("#/components/{kind}/{name}");
                // What a stream of events holds has no place in OpenAPI but in words.
                let is_used = used.contains(&reference) || kind == "securitySchemes" || name == "Event";
                assert!(is_used, "{reference}");
            }
        }
    }

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref") {
                    found.push(reference.as_str().unwrap().to_owned());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
