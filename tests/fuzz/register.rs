//! What AWS posts with a buyer's browser, and the references that the browser carries on.

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{Form, FromRequest as _, Request};
use axum::http::{Method, header};
use futures::FutureExt as _;
use jiff::Timestamp;
use marketd::domain::reference::{ReferenceError, open, seal};
use marketd::http::{NotPosted, Posted};
use secrecy::ExposeSecret;

const TOKEN: &str = "x-amzn-marketplace-token";
const KEY: &[u8] = b"a key of thirty-two bytes or more";
/// The references that were made, by registration and end.
const MADE: [(&str, i64); 3] = [("reg_1", 4_000_000_000), ("reg.2", 4_000_000_000), ("reg_3", 9)];

static REFERENCES: LazyLock<[String; 3]> =
    LazyLock::new(|| MADE.map(|(name, end)| seal(KEY, name, second(end))));

/// Takes the bytes for a form and for a reference.
pub fn check(data: &[u8]) {
    form(data);
    if let Ok(text) = std::str::from_utf8(data) {
        reference(text);
        sealed(text);
    }
}

fn form(data: &[u8]) {
    let request = Request::builder()
        .method(Method::POST)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(data.to_vec()))
        .expect("a request");
    let read = Form::<Vec<(String, String)>>::from_request(request, &()).now_or_never();
    let Ok(Form(fields)) = read.expect("nothing to wait for") else { return };
    let is_token = |name: &str| name.eq_ignore_ascii_case(TOKEN);
    let tokens: Vec<&str> =
        fields.iter().filter(|(name, _)| is_token(name)).map(|(_, value)| value.as_str()).collect();
    let posted = match Posted::read(fields.clone()) {
        Ok(posted) => posted,
        Err(NotPosted::ManyFields) => return assert!(fields.len() > 50),
        Err(NotPosted::SeveralTokens) => return assert!(tokens.len() > 1),
    };
    assert!(fields.len() <= 50 && tokens.len() <= 1);
    let token = posted.token.as_ref().map(ExposeSecret::expose_secret);
    assert_eq!(token, tokens.first().copied().filter(|token| !token.trim().is_empty()));
    assert!(posted.claims.iter().count() <= 20);
    for (name, value) in posted.claims.iter() {
        assert!(!is_token(name), "the token is kept");
        assert!(token.is_none_or(|token| !name.contains(token) && !value.contains(token)));
        assert!(name.len() + value.len() <= 1_024);
        assert!(name.to_ascii_lowercase().starts_with("x-amzn-marketplace-"), "{name:?}");
        assert!(fields.iter().any(|(held, said)| (held.as_str(), said.as_str()) == (name, value)));
    }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// A reference that opens is one of those that were made.
fn reference(text: &str) {
    let made = REFERENCES.iter().position(|reference| reference == text);
    let expected = match made.map(|at| MADE[at]) {
        None => Err(ReferenceError::Forged),
        Some((_, end)) if end <= 1_000 => Err(ReferenceError::Expired),
        Some((name, _)) => Ok(name.to_owned()),
    };
    assert_eq!(open(KEY, text, second(1_000)), expected, "{text:?}");
    assert_eq!(open(b"", text, second(1_000)), Err(ReferenceError::Forged));
}

/// Whatever a registration is called, its reference names it, under its key and in its time.
fn sealed(name: &str) {
    let reference = seal(KEY, name, second(2_000));
    assert_eq!(open(KEY, &reference, second(1_999)).as_deref(), Ok(name));
    assert_eq!(open(KEY, &reference, second(2_000)), Err(ReferenceError::Expired));
    assert_eq!(open(b"another key", &reference, second(1)), Err(ReferenceError::Forged));
}
