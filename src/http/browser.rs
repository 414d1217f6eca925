//! The defence of an API without a token against web pages.
//!
//! A browser on the same machine reaches whatever listens on loopback, and sends there what any page tells it to. Without
//! a token only the request itself tells such a page from a program: by the name that it was sent to, by what the browser
//! says of where it comes from, and by the kinds of bodies that a page may send without asking first.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};

/// The header by which browsers say where a request comes from.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The host names by which a listener without a token may be addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Names of loopback: any other is one that somebody has made to lead here.
    Loopback,
    /// Any name: no browser reaches the listener, or others are meant to.
    Any,
}

/// The reason why a request is taken for a web page's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// The request was sent to a name that is not this machine's own.
    #[error(
        "without a token only requests to localhost, 127.0.0.1 or [::1] are answered, and this one names {0:?} as its host"
    )]
    Host(String),
    /// A page of another site had the request sent.
    #[error(
        "without a token nothing is answered to the pages of other sites, and this comes from {0:?}"
    )]
    Site(String),
    /// A page could have had the request sent.
    #[error(
        "without a token a body is taken only if it is declared as JSON, NDJSON or CSV, and this one is {0}: send `Content-Type: application/json`, with curl -H 'content-type: application/json'"
    )]
    Undeclared(String),
}

impl Foreign {
    /// Returns the status that the request is refused with.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Host(_) | Self::Site(_) => StatusCode::FORBIDDEN,
            Self::Undeclared(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// Returns the type of the problem.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Host(_) => "foreign-host",
            Self::Site(_) => "cross-site",
            Self::Undeclared(_) => "body-undeclared",
        }
    }
}

/// Reports whether a person's browser asks for a page: programs take what the API answers, and say nothing of HTML.
pub fn wants_page<B>(request: &Request<B>) -> bool {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    let accepted = texts(request.headers(), &header::ACCEPT);
    reads && accepted.iter().any(|it| it.contains("text/html"))
}

/// Checks a request by its head.
pub fn check(hosts: Hosts, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Foreign> {
    check_page(hosts, uri, headers)?;
    let reads = [Method::GET, Method::HEAD].contains(method);
    if !reads && has_body(headers) && !is_declared(headers) {
        let kinds = texts(headers, &header::CONTENT_TYPE);
        let said = if kinds.is_empty() { "not declared".into() } else { kinds.join(", ") };
        return Err(Foreign::Undeclared(said));
    }
    Ok(())
}

/// Checks where a request is sent to, and where it comes from.
pub fn check_page(hosts: Hosts, uri: &Uri, headers: &HeaderMap) -> Result<(), Foreign> {
    // Nothing is copied unless it is told: an access check costs little more than this.
    if hosts == Hosts::Loopback && !named(uri, headers).all(is_loopback) {
        let named: Vec<_> = named(uri, headers).map(String::from_utf8_lossy).collect();
        return Err(Foreign::Host(named.join(", ")));
    }
    check_site(uri, headers)
}

/// Returns every name that the request gives its host. One that gives none is not answered either: each browser gives
/// one, and so does every program that speaks HTTP/1.1.
fn named<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let given = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes).chain(authority);
    let none = headers.get(header::HOST).is_none() && authority.is_none();
    given.chain(none.then_some(b"".as_slice()))
}

/// Reports whether a host is a name of loopback: nobody outside can make such a name lead elsewhere, or here by
/// another.
fn is_loopback(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = name.strip_suffix('.').unwrap_or(name);
    let (subdomain, last) = name.rsplit_once('.').map_or((None, name), |(a, b)| (Some(a), b));
    last.eq_ignore_ascii_case("localhost") && subdomain.is_none_or(|name| !name.is_empty())
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Checks where the request comes from: a page of this very origin may ask, and so may a person who types the address.
fn check_site(uri: &Uri, headers: &HeaderMap) -> Result<(), Foreign> {
    let sites = || headers.get_all(&SITE).iter().map(HeaderValue::as_bytes);
    let own = [b"same-origin".as_slice(), b"none"];
    if let Some(site) = sites().find(|site| !own.contains(site)) {
        return Err(Foreign::Site(String::from_utf8_lossy(site).into_owned()));
    }
    for origin in headers.get_all(header::ORIGIN) {
        // A page that tells nobody where its visitors come from has its own forms sent by `null`.
        if origin == "null" && sites().eq([own[0]]) {
            continue;
        }
        let host = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let is_here = |(_, host): (&str, &str)| {
            named(uri, headers).any(|name| name.eq_ignore_ascii_case(host.as_bytes()))
        };
        if !host.is_some_and(is_here) {
            return Err(Foreign::Site(String::from_utf8_lossy(origin.as_bytes()).into_owned()));
        }
    }
    Ok(())
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0")
}

/// Reports whether the body's type is one for which a page must ask for leave, which is never given.
fn is_declared(headers: &HeaderMap) -> bool {
    let kinds = texts(headers, &header::CONTENT_TYPE);
    let declared = |kind: &String| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let Some(subtype) = kind.strip_prefix("application/") else { return kind == "text/csv" };
        ["json", "x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "csv"]
            .contains(&subtype)
            || subtype.ends_with("+json")
    };
    !kinds.is_empty() && kinds.iter().all(declared)
}

fn texts(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.get_all(name).iter().map(text).collect()
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Returns the type of the problem with a request, or `ok`.
    fn judged(hosts: Hosts, method: &str, uri: &str, headers: &[(&str, &str)]) -> &'static str {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        match check(hosts, &head.method, &head.uri, &head.headers) {
            Ok(()) => "ok",
            Err(foreign) => foreign.kind(),
        }
    }

    #[test]
    fn only_names_of_loopback_lead_to_loopback() {
        for (host, expected) in [
            ("localhost", "ok"),
            ("LocalHost:8480", "ok"),
            ("localhost.:8480", "ok"),
            ("app.localhost:8480", "ok"),
            ("127.0.0.1:8480", "ok"),
            ("127.9.9.9", "ok"),
            ("[::1]:8480", "ok"),
            ("[::ffff:127.0.0.1]:8480", "ok"),
            ("evil.example:8480", "foreign-host"),
            ("localhost.evil.example", "foreign-host"),
            ("notlocalhost", "foreign-host"),
            ("127.0.0.1.nip.io", "foreign-host"),
            ("127.0.0.1@evil.example", "foreign-host"),
            ("evil.example@127.0.0.1", "foreign-host"),
            ("0.0.0.0:8480", "foreign-host"),
            ("192.168.1.7:8480", "foreign-host"),
            ("169.254.169.254", "foreign-host"),
            ("", "foreign-host"),
        ] {
            let judged = |hosts| judged(hosts, "GET", "/v1/customers", &[("host", host)]);
            assert_eq!(judged(Hosts::Loopback), expected, "{host:?}");
            assert_eq!(judged(Hosts::Any), "ok", "{host:?}");
        }
        let here = ("host", "localhost");
        let rebound = "http://evil.example/v1/customers";
        let rows: [(&str, &[_], _); 5] = [
            ("/v1/customers", &[], "foreign-host"),
            ("/v1/customers", &[here, ("host", "evil.example")], "foreign-host"),
            (rebound, &[here], "foreign-host"),
            (rebound, &[], "foreign-host"),
            ("http://localhost:8480/v1/customers", &[here], "ok"),
        ];
        for (uri, headers, expected) in rows {
            assert_eq!(judged(Hosts::Loopback, "GET", uri, headers), expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn a_page_that_hides_its_origin_is_its_own_by_what_the_browser_says() {
        let here = [("host", "localhost:8480"), ("origin", "null")];
        for (site, expected) in
            [("same-origin", "ok"), ("none", "cross-site"), ("cross-site", "cross-site")]
        {
            let headers = [here[0], here[1], ("sec-fetch-site", site)];
            assert_eq!(judged(Hosts::Any, "POST", "/v1/usage", &headers), expected, "{site}");
        }
    }

    #[test]
    fn no_page_of_another_site_is_answered() {
        for (name, value, expected) in [
            ("origin", "http://localhost:8480", "ok"),
            ("origin", "http://LOCALHOST:8480", "ok"),
            ("origin", "http://localhost:3000", "cross-site"),
            ("origin", "https://evil.example", "cross-site"),
            ("origin", "null", "cross-site"),
            ("origin", "", "cross-site"),
            ("sec-fetch-site", "same-origin", "ok"),
            ("sec-fetch-site", "none", "ok"),
            ("sec-fetch-site", "same-site", "cross-site"),
            ("sec-fetch-site", "cross-site", "cross-site"),
        ] {
            let headers = [("host", "localhost:8480"), (name, value)];
            for method in ["GET", "POST", "DELETE"] {
                for hosts in [Hosts::Loopback, Hosts::Any] {
                    let judged = judged(hosts, method, "/v1/usage", &headers);
                    assert_eq!(judged, expected, "{method} {name}: {value}");
                }
            }
        }
    }

    #[test]
    fn a_body_is_declared_as_what_no_page_sends_unasked() {
        let undeclared = "body-undeclared";
        for (kind, expected) in [
            (Some("application/json"), "ok"),
            (Some("Application/JSON; charset=utf-8"), "ok"),
            (Some("application/merge-patch+json"), "ok"),
            (Some("application/x-ndjson"), "ok"),
            (Some("application/jsonl"), "ok"),
            (Some("text/csv; header=present"), "ok"),
            (Some("text/plain"), undeclared),
            (Some("text/plain; application/json"), undeclared),
            (Some("text/plain;json"), undeclared),
            (Some("application/json, text/plain"), undeclared),
            (Some("application/x-www-form-urlencoded"), undeclared),
            (Some("multipart/form-data; boundary=json"), undeclared),
            (Some(""), undeclared),
            (None, undeclared),
        ] {
            for body in [("content-length", "2"), ("transfer-encoding", "chunked")] {
                let mut headers = vec![("host", "localhost"), body];
                headers.extend(kind.map(|kind| ("content-type", kind)));
                let judged = |method| judged(Hosts::Loopback, method, "/v1/usage", &headers);
                assert_eq!(judged("POST"), expected, "{kind:?}");
                assert_eq!(judged("PUT"), expected, "{kind:?}");
                assert_eq!(judged("GET"), "ok", "{kind:?}");
            }
        }
        let twice = [
            ("host", "localhost"),
            ("content-length", "2"),
            ("content-type", "application/json"),
            ("content-type", "text/plain"),
        ];
        assert_eq!(judged(Hosts::Loopback, "POST", "/v1/usage", &twice), undeclared);
        // Nothing is declared where there is nothing: `curl -X POST` and `curl -d ''`.
        let form = ("content-type", "application/x-www-form-urlencoded");
        let nothing: [&[_]; 2] =
            [&[("host", "localhost")], &[("host", "localhost"), ("content-length", "0"), form]];
        for headers in nothing {
            assert_eq!(judged(Hosts::Loopback, "POST", "/v1/plans/a/publish", headers), "ok");
        }
    }
}
