//! Trouble that passes, by itself or once a person mends it: a lock that somebody else holds, a full disk. It is heard of by whoever shows how things stand.

use std::error::Error;

use tokio::sync::watch;

use super::sql::{self, ErrorKind};

/// The reason why the database could not do something that it may do later.
#[derive(Clone, Debug)]
pub(crate) struct TroubleCause {
    pub(crate) kind: ErrorKind,
    pub(crate) said: String,
}

/// Finds the trouble that an error of whatever operation comes from, if there is any.
pub(crate) fn found_in(error: &(dyn Error + 'static)) -> Option<TroubleCause> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(sql) = error.downcast_ref::<sql::Error>() {
            let kind = Some(sql.kind()).filter(|kind| kind.is_trouble())?;
            return Some(TroubleCause { kind, said: sql.to_string() });
        }
        cause = error.source();
    }
    None
}

/// The present trouble, if there is any; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Trouble(watch::Sender<Option<String>>);

impl Default for Trouble {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Trouble {
    pub(crate) fn begin(&self, why: &TroubleCause) {
        self.0.send_if_modified(|held| {
            let is_news = held.as_ref() != Some(&why.said);
            *held = Some(why.said.clone());
            is_news
        });
    }

    pub(crate) fn is_over(&self) {
        self.0.send_if_modified(|held| held.take().is_some());
    }

    pub(crate) fn heard(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}
