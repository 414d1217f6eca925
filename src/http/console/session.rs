//! Sessions: who has signed in, by a cookie that holds no secret but its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;
use axum_extra::extract::CookieJar;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::mistakes::Mistake;
use crate::clock::Clock;
use crate::domain::api_token::{ApiToken, LOCAL, Role};
use crate::http::Tokens;
use crate::turns::Source;

/// The cookie of a session.
pub(super) const COOKIE: &str = "marketd_session";
/// The time for which somebody stays signed in.
pub(super) const LIFETIME: SignedDuration = SignedDuration::from_hours(12);
/// The most sessions at once; beyond it the oldest ends.
const MOST: usize = 1_000;
/// The wrong tokens that a source may try in a minute.
const TRIES: u32 = 10;
/// The most sources whose tries are counted.
const SOURCES: usize = 10_000;

/// The sessions, which end with the process.
pub struct Sessions {
    /// The machine's time, which nobody moves: a rehearsed month signs nobody out.
    clock: Clock,
    open: Mutex<HashMap<[u8; 32], Session>>,
    tries: Mutex<HashMap<Source, (u32, Timestamp)>>,
    /// The token of forms where the API has no token, and nobody signs in.
    local: Arc<str>,
}

struct Session {
    token: ApiToken,
    form_token: Arc<str>,
    until: Timestamp,
}

/// Somebody who opens a page.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// The name of their token.
    pub(super) name: Arc<str>,
    /// Their role.
    pub(super) role: Role,
    /// The token that their forms carry.
    pub(super) form_token: Arc<str>,
    /// Set if they can sign out.
    pub(super) signed_in: bool,
    /// The path under which the console is served, without a slash at its end.
    pub(super) root: Arc<str>,
    /// The path and query that they asked for, from the root on, without a slash at its beginning.
    pub(super) place: String,
    /// The page that their form was on, from the root on; for a page, itself.
    pub(super) page: String,
    /// Set if they send a form.
    pub(super) sends: bool,
    /// The form of theirs that was refused, for its page to show again.
    pub(super) mistake: Option<Mistake>,
    /// Set if the daemon runs against the built-in sandbox.
    pub(super) on_sandbox: bool,
}

impl Visitor {
    /// Makes a visitor of whom nothing is known but who they are.
    fn new(name: Arc<str>, role: Role, form_token: Arc<str>, signed_in: bool) -> Self {
        Self {
            name,
            role,
            form_token,
            signed_in,
            root: "".into(),
            place: String::new(),
            page: String::new(),
            sends: false,
            mistake: None,
            on_sandbox: false,
        }
    }

    /// Compares a form's token with theirs, in a time that does not tell where they differ.
    pub(super) fn owns(&self, form_token: &str) -> bool {
        self.form_token.as_bytes().ct_eq(form_token.as_bytes()).into()
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            open: Mutex::default(),
            tries: Mutex::default(),
            local: secret().into(),
        }
    }
}

impl Sessions {
    /// Opens a session, and returns what its cookie holds.
    pub(super) fn open(&self, token: ApiToken) -> String {
        let (id, now) = (secret(), self.clock.now());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.until > now);
        if open.len() >= MOST
            && let Some(oldest) = open.iter().min_by_key(|(_, it)| it.until).map(|(key, _)| *key)
        {
            open.remove(&oldest);
        }
        let until = now.checked_add(LIFETIME).unwrap_or(now);
        open.insert(hash(&id), Session { token, form_token: secret().into(), until });
        id
    }

    /// Ends the session of a request.
    pub(super) fn close(&self, headers: &HeaderMap) {
        if let Some(key) = key_of(headers) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
    }

    /// Returns who sent a request: whoever reaches the API where it has no token, else somebody who has signed in with a
    /// token that is still good.
    pub(super) fn visitor(&self, tokens: &Tokens, headers: &HeaderMap) -> Option<Visitor> {
        if tokens.is_empty() {
            let (name, form_token) = (LOCAL.into(), Arc::clone(&self.local));
            return Some(Visitor::new(name, Role::Admin, form_token, false));
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get(&key_of(headers)?).filter(|it| it.until > self.clock.now())?;
        let token = &session.token;
        tokens.holds(token).then(|| {
            let form_token = Arc::clone(&session.form_token);
            Visitor::new(Arc::clone(&token.name), token.role, form_token, true)
        })
    }

    /// Reports whether a source may try another token now.
    pub(super) fn may_try(&self, source: Source) -> bool {
        let now = self.clock.now();
        let tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.get(&source).is_none_or(|(count, until)| *count < TRIES || *until <= now)
    }

    /// Counts a wrong token of a source.
    pub(super) fn count_wrong(&self, source: Source) {
        let now = self.clock.now();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|_, (_, until)| *until > now);
        if tries.len() >= SOURCES {
            return;
        }
        let until = now.checked_add(SignedDuration::from_mins(1)).unwrap_or(now);
        tries.entry(source).or_insert((0, until)).0 += 1;
    }
}

fn key_of(headers: &HeaderMap) -> Option<[u8; 32]> {
    Some(hash(CookieJar::from_headers(headers).get(COOKIE)?.value()))
}

fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

/// Returns a text that nobody can guess: 244 random bits.
fn secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
