//! The writes of other processes: another daemon on the same server, or `run --reconcile-once` beside one.

use super::changes::ChangeCapture;
use super::postgres::turn_changes;
use super::sql::{Connection, Error, ErrorKind, Result};
use super::trouble::{Trouble, TroubleCause};

/// The place in the order of writes that was seen last.
#[derive(Debug)]
pub(super) struct OtherWriters {
    /// SQLite: a number that changes when another connection has written. A server: the number of the last transaction
    /// that has written. None if it is not known.
    seen: Option<i64>,
    /// The number of the connection by which it was seen. Behind another one may be a server that has another past.
    connection: u64,
}

impl OtherWriters {
    /// Makes one that has seen all that was written so far.
    pub(super) fn seen_by(connection: &Connection) -> Self {
        Self { seen: read(connection).ok(), connection: connection.number() }
    }

    /// Tells whoever keeps something of the database if another process has written, and connects anew where the
    /// connection was lost. Whoever cannot look may answer from what is old: that is trouble.
    pub(super) fn look(
        &mut self,
        connection: &Connection,
        capture: &ChangeCapture,
        trouble: &Trouble,
    ) {
        match connection.reconnect_if_lost().and_then(|()| read(connection)) {
            Ok(now) => self.compare(connection, Some(now), capture),
            Err(error) => {
                let (kind, said) = (error.kind(), error.to_string());
                if kind.is_trouble() {
                    trouble.begin(&TroubleCause { kind, said });
                }
            }
        }
    }

    /// Has what [`look_within`](Self::look_within) reads asked for together with the turn that is about to begin.
    pub(super) fn ask_ahead(&self, connection: &Connection) {
        if let (Connection::Postgres(_), Some(seen)) = (connection, self.seen) {
            // A connection that was lost is found out by whoever begins the turn.
            drop(turn_changes::ask_ahead(connection, seen));
        }
    }

    /// Does the same as [`look`](Self::look) within a transaction that may write: nobody else can, so that it holds until
    /// its end.
    pub(super) fn look_within(&mut self, connection: &Connection, capture: &ChangeCapture) {
        match connection {
            Connection::Sqlite(_) => {
                if let Ok(now) = read(connection) {
                    self.compare(connection, Some(now), capture);
                }
            }
            Connection::Postgres(session) => {
                let before = session.turn().map(|turn| turn.number - 1);
                self.compare(connection, before, capture);
            }
            // It begins no transaction.
            Connection::Strand(_) => {}
        }
    }

    /// Notes that the transaction is committed: its own turn is nobody else's.
    pub(super) fn committed(&mut self, connection: &Connection) {
        if let Connection::Postgres(session) = connection {
            self.seen = session.turn().map(|turn| turn.number);
        }
    }

    fn compare(&mut self, connection: &Connection, found: Option<i64>, capture: &ChangeCapture) {
        if std::mem::replace(&mut self.connection, connection.number()) != self.connection {
            self.seen = None;
        }
        if found.is_some() && found == self.seen {
            return;
        }
        let changes = match (connection, self.seen, found) {
            (Connection::Postgres(_), Some(seen), Some(found)) => {
                turn_changes::read(connection, seen, found).ok().flatten()
            }
            _ => None,
        };
        self.seen = found;
        match changes {
            Some(changes) => capture.tell_of_others(changes),
            None => capture.tell_everything(),
        }
    }
}

fn read(connection: &Connection) -> Result<i64> {
    let statement = match connection {
        Connection::Sqlite(_) => "PRAGMA data_version",
        Connection::Postgres(_) | Connection::Strand(_) => "SELECT n FROM turns",
    };
    let read = connection.query_row(statement, [], |row| row.get(0));
    read.map_err(|error| if error.kind() == ErrorKind::NoRow { Error::NoTurn } else { error })
}

#[cfg(test)]
#[path = "other_writers_tests.rs"]
mod tests;
