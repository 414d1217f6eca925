//! Fair queueing of strangers at public doors, who wait for something of which there is little. How fast AWS is called is
//! another matter: `aws/rate.rs`.
//!
//! Whoever floods such a place must not keep others out, and cannot be told from them by what they send. So nobody is
//! refused for coming late: of those who wait, the next is one of a network that has not wasted turns lately, of the source
//! that has the fewest waiting, and of these the one who came last, since those who have waited long are gone by now. Who
//! is to leave where too many wait is decided the same way.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// The most of one source that may wait at once, where sources are told apart.
const EACH: usize = 5;
/// The time until half of what a network has wasted is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// The most networks that are remembered for what they have wasted.
const NETWORKS: usize = 4_096;

/// The source of a request: an address and the network around it, either of which one person may have for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// One machine's, or one subscriber's: an IPv4 address, or an IPv6 /64.
    address: Option<IpAddr>,
    /// An IPv4 /24, or an IPv6 /48, of which anybody may have one.
    network: Option<IpAddr>,
}

impl Source {
    /// The source of those who cannot be told apart, and are not held to what others of them waste.
    pub const UNKNOWN: Self = Self { address: None, network: None };

    /// Returns the source that an address is of.
    pub fn of(address: IpAddr) -> Self {
        let (narrow, wide) = match address.to_canonical() {
            IpAddr::V4(it) => {
                (IpAddr::V4(it), IpAddr::V4(Ipv4Addr::from_bits(it.to_bits() & 0xffff_ff00)))
            }
            IpAddr::V6(it) => {
                let first =
                    |bits: u32| Ipv6Addr::from_bits(it.to_bits() & (u128::MAX << (128 - bits)));
                (IpAddr::V6(first(64)), IpAddr::V6(first(48)))
            }
        };
        Self { address: Some(narrow), network: Some(wide) }
    }
}

/// A line of those who wait; clones share it.
#[derive(Clone, Debug)]
pub struct Line(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting_most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Turns that nobody has.
    free: usize,
    waiting: Vec<Waiting>,
    came: u64,
    wasted: HashMap<IpAddr, Wasted>,
}

#[derive(Debug)]
struct Waiting {
    came: u64,
    source: Source,
    call: oneshot::Sender<Turn>,
}

#[derive(Clone, Copy, Debug)]
struct Wasted {
    turns: u32,
    at: Instant,
}

impl Wasted {
    fn left(self, now: Instant) -> u32 {
        let halves = now.duration_since(self.at).as_secs() / HALF_LIFE.as_secs();
        self.turns.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0)
    }
}

/// The rank of one who waits: what was wasted, how many of the source wait, who came last. The lowest goes first.
type Rank = (u32, usize, Reverse<u64>);

/// A turn, which the next one has when it is dropped.
#[derive(Debug)]
pub struct Turn(Option<Line>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.next();
        }
    }
}

impl Line {
    /// Makes a line for so many turns at once, in which so many may wait.
    pub fn new(turns: usize, waiting: usize) -> Self {
        let state = State { free: turns, ..State::default() };
        Self(Arc::new(Shared { waiting_most: waiting, state: Mutex::new(state) }))
    }

    /// Waits for a turn. None if it is hopeless: others go before, and too many wait.
    pub async fn turn(&self, source: Source) -> Option<Turn> {
        let (call, called) = oneshot::channel();
        {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Some(Turn(Some(self.clone())));
            }
            let came = state.came;
            state.came += 1;
            state.waiting.push(Waiting { came, source, call });
            // Whoever is sent away learns of it as the other end of their channel is gone.
            state.make_room(source, self.0.waiting_most);
        }
        called.await.ok()
    }

    /// Notes that somebody's turn came to nothing.
    pub fn wasted(&self, source: Source) {
        let Some(network) = source.network else { return };
        let now = Instant::now();
        let mut state = self.state();
        let wasted = &mut state.wasted;
        if wasted.len() >= NETWORKS && !wasted.contains_key(&network) {
            let least = wasted.values().map(|it| it.left(now)).min().unwrap_or(0);
            wasted.retain(|_, it| it.left(now) > least);
        }
        let held = wasted.get(&network).map_or(0, |it| it.left(now));
        wasted.insert(network, Wasted { turns: held.saturating_add(1), at: now });
    }

    fn next(&self) {
        let mut turn = Turn(Some(self.clone()));
        loop {
            let call = {
                let mut state = self.state();
                state.waiting.retain(|it| !it.call.is_closed());
                let Some(best) = state.best() else {
                    state.free += 1;
                    turn.0 = None;
                    return;
                };
                state.waiting.swap_remove(best).call
            };
            // Whoever went away just now has the next one called.
            match call.send(turn) {
                Ok(()) => return,
                Err(back) => turn = back,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sends away those who are too many: the oldest of this source, or the last of all.
    fn make_room(&mut self, source: Source, most: usize) {
        self.waiting.retain(|it| !it.call.is_closed());
        let same = |it: &Waiting| it.source.address == source.address;
        if source.address.is_some() && self.waiting.iter().filter(|it| same(it)).count() > EACH {
            let oldest = self.waiting.iter().enumerate().filter(|(_, it)| same(it));
            let oldest = oldest.min_by_key(|(_, it)| it.came).map(|(at, _)| at);
            oldest.map(|at| self.waiting.swap_remove(at));
        }
        if self.waiting.len() > most {
            let last = self.ranked().into_iter().max().map(|(_, at)| at);
            last.map(|at| self.waiting.swap_remove(at));
        }
    }

    /// Returns the place of the one who is next.
    fn best(&self) -> Option<usize> {
        self.ranked().into_iter().min().map(|(_, at)| at)
    }

    /// Returns the rank of each who waits, of which the lowest goes first, and their place.
    fn ranked(&self) -> Vec<(Rank, usize)> {
        let now = Instant::now();
        let mut company: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for it in &self.waiting {
            *company.entry(it.source.address).or_default() += 1;
        }
        let rank = |(at, it): (usize, &Waiting)| {
            let wasted = it.source.network.and_then(|network| self.wasted.get(&network));
            // A few more or less say nothing, twice as many do.
            let wasted = u32::BITS - wasted.map_or(0, |it| it.left(now)).leading_zeros();
            let company = company.get(&it.source.address).copied().unwrap_or(0);
            ((wasted, company, Reverse(it.came)), at)
        };
        self.waiting.iter().enumerate().map(rank).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt as _;

    use super::*;

    type Coming<'a> = Pin<Box<dyn Future<Output = Option<Turn>> + 'a>>;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    /// Has a caller begin to wait.
    fn come<'a>(line: &'a Line, from: &str) -> Coming<'a> {
        let source = source(from);
        let mut coming: Coming<'_> = Box::pin(line.turn(source));
        assert!(coming.as_mut().now_or_never().is_none(), "{from} waits");
        coming
    }

    /// Reports whether a caller has got a turn (kept), was sent away, or waits.
    fn stands(coming: &mut Coming<'_>, kept: &mut Vec<Turn>) -> &'static str {
        match coming.as_mut().now_or_never() {
            Some(Some(turn)) => {
                kept.push(turn);
                "called"
            }
            Some(None) => "sent away",
            None => "waits",
        }
    }

    #[test]
    fn sources_are_what_one_person_may_have_for_themselves() {
        for (one, other, same_address, same_network) in [
            ("192.0.2.1", "192.0.2.1", true, true),
            ("192.0.2.1", "::ffff:192.0.2.1", true, true),
            ("192.0.2.1", "192.0.2.9", false, true),
            ("192.0.2.1", "192.0.3.1", false, false),
            ("2001:db8:0:1::1", "2001:db8:0:1:9::", true, true),
            ("2001:db8:0:1::1", "2001:db8:0:ffff::1", false, true),
            ("2001:db8:0:1::1", "2001:db8:1:1::1", false, false),
        ] {
            let (a, b) = (source(one), source(other));
            assert_eq!(a.address == b.address, same_address, "{one} {other}");
            assert_eq!(a.network == b.network, same_network, "{one} {other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_handed_on_to_the_one_who_came_last() {
        let line = Line::new(1, 10);
        let first = line.turn(source("192.0.2.1")).await.unwrap();
        let mut waiting: Vec<_> =
            ["198.51.100.1", "198.51.100.2", "203.0.113.3"].map(|it| come(&line, it)).into();
        let mut kept = vec![first];
        for at in [2, 1, 0] {
            kept.clear();
            assert_eq!(stands(&mut waiting[at], &mut kept), "called", "{at}");
            for other in &mut waiting[..at] {
                assert_eq!(stands(other, &mut kept), "waits");
            }
        }
        kept.clear();
        assert!(line.turn(source("192.0.2.1")).now_or_never().is_some(), "it is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_away_costs_nobody_a_turn() {
        let line = Line::new(1, 10);
        let first = line.turn(source("192.0.2.1")).await.unwrap();
        let mut patient = come(&line, "198.51.100.1");
        let gone = come(&line, "198.51.100.2");
        let called = come(&line, "198.51.100.3");
        drop(gone);
        drop(first);
        // Called, and away before hearing of it.
        drop(called);
        let mut kept = Vec::new();
        assert_eq!(stands(&mut patient, &mut kept), "called");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_is_not_kept_out_by_however_many_who_waste_their_turns() {
        let line = Line::new(1, 40);
        let mut kept = vec![line.turn(Source::UNKNOWN).await.unwrap()];
        let mut flood = Vec::new();
        for number in 0..120_u32 {
            // A hundred and twenty /64s of two /48s, each of which has been heard of.
            let from = format!("2001:db8:{}:{number:x}::1", number % 2);
            line.wasted(source(&from));
            flood.push(come_or_go(&line, &from));
        }
        let mut buyer = come(&line, "198.51.100.7");
        for number in 0..120_u32 {
            flood.push(come_or_go(&line, &format!("2001:db8:1:{:x}::1", 1_000 + number)));
        }
        assert_eq!(stands(&mut buyer, &mut kept), "waits");
        kept.clear();
        assert_eq!(stands(&mut buyer, &mut kept), "called");
        let mut waiting = 0;
        for coming in &mut flood {
            // Else the runtime has whoever asks this often wait.
            tokio::task::yield_now().await;
            waiting += usize::from(stands(coming, &mut kept) == "waits");
        }
        assert_eq!(waiting, 39, "so many wait beside the buyer, and the others were sent away");
    }

    fn come_or_go<'a>(line: &'a Line, from: &str) -> Coming<'a> {
        let mut coming: Coming<'_> = Box::pin(line.turn(source(from)));
        match coming.as_mut().now_or_never() {
            Some(done) => Box::pin(std::future::ready(done)),
            None => coming,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_has_few_waiting_and_its_newest_are_served() {
        let line = Line::new(1, 100);
        let mut kept = vec![line.turn(Source::UNKNOWN).await.unwrap()];
        let mut flood: Vec<_> = (0..20).map(|_| come_or_go(&line, "192.0.2.1")).collect();
        let mut other = come(&line, "192.0.2.2");
        flood.extend((0..20).map(|_| come_or_go(&line, "192.0.2.1")));
        let stand: Vec<_> = flood.iter_mut().map(|it| stands(it, &mut kept)).collect();
        assert_eq!(stand.iter().filter(|it| **it == "waits").count(), EACH);
        assert!(stand[40 - EACH..].iter().all(|it| *it == "waits"), "the newest wait: {stand:?}");
        kept.clear();
        assert_eq!(stands(&mut other, &mut kept), "called", "who has fewer waiting goes first");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_wasted_is_forgotten_and_not_more_is_kept_than_fits() {
        let line = Line::new(1, 10);
        let (bad, good) = (source("192.0.2.1"), source("198.51.100.1"));
        line.wasted(bad);
        let left = |line: &Line| {
            line.state().wasted.get(&bad.network.unwrap()).map_or(0, |it| it.left(Instant::now()))
        };
        assert_eq!(left(&line), 1);
        tokio::time::advance(HALF_LIFE * 2).await;
        assert_eq!(left(&line), 0);
        for _ in 0..100 {
            line.wasted(bad);
        }
        for number in 0..10_000_u32 {
            line.wasted(Source::of(IpAddr::V4(Ipv4Addr::from_bits(number << 8))));
        }
        assert!(line.state().wasted.len() <= NETWORKS);
        assert_eq!(left(&line), 100, "who wastes most is remembered");
        line.wasted(Source::UNKNOWN);
        let _turn = line.turn(good).await.unwrap();
    }
}
