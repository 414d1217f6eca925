//! The client's address at a public endpoint.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::turns::Source;

/// Returns the source of a request: its peer, or the client that trusted proxies name in `X-Forwarded-For`. That header
/// proves nothing from anybody else.
pub(super) fn source_of(
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
    trusted: &[IpAddr],
) -> Source {
    let Some(peer) = peer else { return Source::UNKNOWN };
    let mut source = peer.ip().to_canonical();
    let told = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let mut told: Vec<&str> = told.flat_map(|value| value.split(',')).map(str::trim).collect();
    // Each proxy appends whom it heard from, so the last word is the nearest.
    while trusted.contains(&source)
        && let Some(before) = told.pop().and_then(|text| text.parse::<IpAddr>().ok())
    {
        source = before.to_canonical();
    }
    Source::of(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_whom_they_speak_for() {
        let trusted: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse().unwrap()).to_vec();
        let rows = [
            ("192.0.2.1", None, "192.0.2.1"),
            ("192.0.2.1", Some("198.51.100.7"), "192.0.2.1"),
            ("10.0.0.1", Some("198.51.100.7"), "198.51.100.7"),
            ("10.0.0.1", Some("203.0.113.9, 198.51.100.7, 10.0.0.2"), "198.51.100.7"),
            ("10.0.0.1", Some("nonsense"), "10.0.0.1"),
            ("10.0.0.1", None, "10.0.0.1"),
            ("2001:db8::1:2:3:4", None, "2001:db8::"),
        ];
        for (peer, forwarded, expected) in rows {
            let mut headers = HeaderMap::new();
            if let Some(forwarded) = forwarded {
                headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            }
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            let source = source_of(Some(peer), &headers, &trusted);
            assert_eq!(source, Source::of(expected.parse().unwrap()), "{peer} {forwarded:?}");
        }
    }
}
