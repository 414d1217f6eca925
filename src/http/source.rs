//! Who a browser at the door comes from, and how many may wait from one source: whoever floods the door must not hold
//! all the turns to ask AWS.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;

/// How many of one source may wait at once. The door serves some twenty-five within a browser's patience.
const EACH: usize = 5;

/// The turns that are held, source by source.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Option<IpAddr>, usize>>>);

/// A place in the queue, given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    source: Option<IpAddr>,
}

impl Turns {
    /// A place for this source, if it does not hold too many.
    pub(super) fn take(&self, source: Option<IpAddr>) -> Option<Turn> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(source).or_default();
        if *count >= EACH {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Turn { turns: self.clone(), source })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.source);
            }
        }
    }
}

/// The source of a request: its peer, or whom trusted proxies say that they speak for. A header of anybody else's
/// proves nothing.
pub(super) fn source_of(
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
    trusted: &[IpAddr],
) -> Option<IpAddr> {
    let mut source = peer?.ip().to_canonical();
    let told = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let mut told: Vec<&str> = told.flat_map(|value| value.split(',')).map(str::trim).collect();
    // Each proxy appends whom it heard from, so the last word is the nearest.
    while trusted.contains(&source)
        && let Some(before) = told.pop().and_then(|text| text.parse::<IpAddr>().ok())
    {
        source = before.to_canonical();
    }
    Some(network_of(source))
}

/// One subscriber has a whole /64.
fn network_of(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & !u128::from(u64::MAX))),
    }
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
            assert_eq!(source, Some(expected.parse().unwrap()), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn one_source_leaves_turns_to_others() {
        let turns = Turns::default();
        let (flood, other) =
            (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let held: Vec<Turn> = std::iter::from_fn(|| turns.take(flood)).collect();
        assert_eq!(held.len(), EACH);
        assert!(turns.take(other).is_some());
        drop(held);
        assert!(turns.take(flood).is_some());
        assert!(turns.0.lock().unwrap().is_empty(), "nothing is kept of who has left");
    }
}
