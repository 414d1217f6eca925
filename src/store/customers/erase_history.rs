//! Taking an erased customer out of history: events, bodies of messages, who did what, and usage events.
//!
//! These tables grow without bound. Each is walked in its own order, in pieces: readers look, and the writer is asked
//! only where something is to change. Metering records and sums are not history: they were moved at once.

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::erase::{end_erasure_in, erasure_in};
use crate::domain::CustomerId;
use crate::store::base::columns::millis;
use crate::store::engine::sql::{Connection, Params, Row, Value as SqlValue};
use crate::store::{During, Store, StoreError};

/// The rows that are looked at in one piece.
const PIECE: i64 = 2_000;
/// The same of usage events, which are small.
const USAGE_PIECE: i64 = 20_000;
/// A word that is shorter names nobody.
const SHORTEST_WORD: usize = 3;

/// An erasure that is under way.
#[derive(Clone)]
struct Erasure {
    /// The opaque id.
    into: CustomerId,
    /// The ids that the customer had.
    ids: Vec<String>,
    /// What names it in bodies, in lower case.
    words: Vec<String>,
}

/// A row's place, and what is to be written to it.
type Rewritten = (i64, SqlValue);

/// What is to be written anew in a piece, and where the next one begins.
struct Piece {
    rows: Vec<Rewritten>,
    next: Option<i64>,
}

impl Store {
    /// Finishes the erasures that a stop has left over.
    pub(crate) async fn finish_erasures(&self, now: Timestamp) -> Result<(), StoreError> {
        let left: Vec<String> = self
            .read(|connection| {
                connection
                    .prepare_cached("SELECT customer_id FROM erasures")
                    .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
                    .during("look for erasures")
            })
            .await?;
        for erased in left {
            self.finish_erasure(&CustomerId::new(erased), now).await?;
        }
        Ok(())
    }

    /// Takes the ids and the name of an erased customer out of history.
    pub(super) async fn finish_erasure(
        &self,
        erased: &CustomerId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let id = erased.clone();
        let read = self.read(move |connection| Erasure::read_in(connection, id));
        let Some(erasure) = read.await? else { return Ok(()) };
        for id in erasure.ids.clone() {
            let walk = move |connection: &_, it: &_, after| events_in(connection, it, &id, after);
            let write = "UPDATE events SET data = ?2, customer_id = ?3 WHERE seq = ?1";
            self.rewrite(&erasure, walk, write).await?;
        }
        let write = "UPDATE events SET data = ?2 WHERE seq = ?1 AND ?3 <> ''";
        self.rewrite(&erasure, visits_in, write).await?;
        let write = "UPDATE notifications SET body = 'null', erased_at_ms = ?2
             WHERE seq = ?1 AND state <> 'pending' AND ?3 <> ''";
        let walk = move |connection: &_, it: &_, after| bodies_in(connection, it, after, now);
        self.rewrite(&erasure, walk, write).await?;
        let write = "UPDATE activity SET path = ?2 WHERE seq = ?1 AND ?3 <> ''";
        self.rewrite(&erasure, paths_in, write).await?;
        self.erase_from_usage(&erasure).await
    }

    /// Walks a table, and writes to the rows that are found: what is to be written there, and the opaque id.
    async fn rewrite(
        &self,
        erasure: &Erasure,
        look: impl Fn(&Connection, &Erasure, i64) -> Result<Piece, StoreError> + Clone + Send + 'static,
        write: &'static str,
    ) -> Result<(), StoreError> {
        let mut place = Some(i64::MIN);
        while let Some(after) = place {
            let (it, looking) = (erasure.clone(), look.clone());
            let piece = self.read(move |connection| looking(connection, &it, after)).await?;
            place = piece.next;
            if piece.rows.is_empty() {
                continue;
            }
            let (rows, into) = (piece.rows, erasure.into.clone());
            self.write(move |connection| {
                let mut update = connection.prepare_cached(write).during("erase a piece")?;
                for (row, value) in &rows {
                    update.execute((row, value, into.as_str())).during("erase a piece")?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        }
        Ok(())
    }

    /// Gives usage events the opaque id. The last piece ends the erasure, in the transaction after which no report can
    /// come by an old id.
    async fn erase_from_usage(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let mut after = i64::MIN;
        loop {
            let it = erasure.clone();
            let (last, found) =
                self.read(move |connection| it.usage_piece_in(connection, after)).await?;
            let it = erasure.clone();
            let Some(last) = last else {
                return self
                    .write(move |connection| {
                        it.rename_usage_in(connection, after, i64::MAX)?;
                        end_erasure_in(connection, &it.into)
                    })
                    .await;
            };
            if found {
                self.write(move |connection| it.rename_usage_in(connection, after, last)).await?;
            }
            after = last;
        }
    }
}

impl Erasure {
    fn read_in(connection: &Connection, into: CustomerId) -> Result<Option<Self>, StoreError> {
        let Some(words) = erasure_in(connection, &into)? else { return Ok(None) };
        let ids = connection
            .prepare_cached("SELECT alias FROM customer_aliases WHERE customer_id = ?1")
            .and_then(|mut select| select.query_map([into.as_str()], |row| row.get(0))?.collect())
            .during("read the ids of an erased customer")?;
        let words = words.into_iter().map(|word| word.to_lowercase());
        let words = words.filter(|word| word.chars().count() >= SHORTEST_WORD).collect();
        Ok(Some(Self { into, ids, words }))
    }

    /// Reports whether a text names the customer: one of the words stands in it as a whole.
    fn is_named_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let part = |it: Option<char>| it.is_some_and(char::is_alphanumeric);
        self.words.iter().any(|word| {
            text.match_indices(word.as_str()).any(|(at, _)| {
                let (before, rest) = text.split_at(at);
                !part(before.chars().next_back())
                    && !part(rest.split_at(word.len()).1.chars().next())
            })
        })
    }

    fn had(&self, id: &str) -> bool {
        self.ids.iter().any(|it| it == id)
    }

    fn anonymous_event(&self, kind: &str, data: &str) -> SqlValue {
        let data = serde_json::from_str(data).unwrap_or(Value::Null);
        SqlValue::from(self.anonymous(kind, data).to_string())
    }

    /// Takes the customer out of an event's data: the opaque id in place of the old ones, and nothing of the profile.
    fn anonymous(&self, kind: &str, data: Value) -> Value {
        let profile = kind.starts_with("customer.") || kind.starts_with("registration.");
        match data {
            Value::String(text) if self.had(&text) => json!(self.into.as_str()),
            Value::Array(items) => items.into_iter().map(|it| self.anonymous(kind, it)).collect(),
            Value::Object(members) => {
                let mut kept = Map::new();
                for (key, value) in members {
                    let value = match key.as_str() {
                        "name" | "email" | "lost" | "aliases" if profile => continue,
                        "detail" if profile => json!("erased"),
                        "metadata" | "claimed_by_browser" if profile => json!({}),
                        _ => self.anonymous(kind, value),
                    };
                    kept.insert(key, value);
                }
                Value::Object(kept)
            }
            other => other,
        }
    }

    /// Returns the last of a piece of usage events, and whether any of them is the customer's.
    fn usage_piece_in(
        &self,
        connection: &Connection,
        after: i64,
    ) -> Result<(Option<i64>, bool), StoreError> {
        connection
            .prepare_cached(
                "SELECT max(place), coalesce(max(theirs), 0) FROM (
                     SELECT rowid AS place, CASE WHEN customer_id IN (
                         SELECT alias FROM customer_aliases WHERE customer_id = ?1) THEN 1 ELSE 0 END AS theirs
                     FROM usage_events WHERE rowid > ?2 ORDER BY rowid LIMIT ?3) AS piece",
            )
            .and_then(|mut select| {
                let piece = (self.into.as_str(), after, USAGE_PIECE);
                select.query_row(piece, |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .during("look for an erased customer's usage")
    }

    fn rename_usage_in(
        &self,
        connection: &Connection,
        after: i64,
        last: i64,
    ) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE usage_events SET customer_id = ?1 WHERE rowid > ?2 AND rowid <= ?3
                     AND customer_id IN (SELECT alias FROM customer_aliases WHERE customer_id = ?1)",
            )
            .and_then(|mut update| update.post((self.into.as_str(), after, last)))
            .during("rename an erased customer's usage")?;
        Ok(())
    }
}

/// Reads a piece of a table, a text with each row's place, and keeps what is to be written to those that name the customer.
fn piece_of(
    connection: &Connection,
    statement: &str,
    key: impl Params,
    rewritten: impl Fn(String, String) -> Option<SqlValue>,
) -> Result<Piece, StoreError> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found: Vec<(i64, String, String)> = connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_map(key, read)?.collect())
        .during("look for an erased customer")?;
    let is_full = i64::try_from(found.len()).is_ok_and(|rows| rows == PIECE);
    let next = found.last().map(|(place, ..)| *place).filter(|_| is_full);
    let rows =
        found.into_iter().filter_map(|(place, kind, text)| Some((place, rewritten(kind, text)?)));
    Ok(Piece { rows: rows.collect(), next })
}

/// Finds the events about one of the ids that the customer had.
fn events_in(
    connection: &Connection,
    erasure: &Erasure,
    id: &str,
    after: i64,
) -> Result<Piece, StoreError> {
    let statement = "SELECT seq, type, data FROM events WHERE customer_id = ?1 AND seq > ?2
         ORDER BY seq LIMIT ?3";
    piece_of(connection, statement, (id, after, PIECE), |kind, data| {
        Some(erasure.anonymous_event(&kind, &data))
    })
}

/// Finds the events of visits that name the buyer and no customer.
fn visits_in(connection: &Connection, erasure: &Erasure, after: i64) -> Result<Piece, StoreError> {
    let statement = "SELECT seq, type, data FROM events
         WHERE type = 'registration.received' AND seq > ?1 ORDER BY seq LIMIT ?2";
    piece_of(connection, statement, (after, PIECE), |kind, data| {
        erasure.is_named_in(&data).then(|| erasure.anonymous_event(&kind, &data))
    })
}

/// Finds the messages that name the customer, but for those that still wait to be applied.
fn bodies_in(
    connection: &Connection,
    erasure: &Erasure,
    after: i64,
    now: Timestamp,
) -> Result<Piece, StoreError> {
    let statement =
        "SELECT seq, state, body FROM notifications WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    piece_of(connection, statement, (after, PIECE), |state, body| {
        let goes = state != "pending" && erasure.is_named_in(&body);
        goes.then(|| SqlValue::from(millis(now)))
    })
}

/// Finds the paths at which somebody changed the customer.
fn paths_in(connection: &Connection, erasure: &Erasure, after: i64) -> Result<Piece, StoreError> {
    let statement = "SELECT seq, door, path FROM activity WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    piece_of(connection, statement, (after, PIECE), |_door, path| {
        let mut parts: Vec<&str> = path.split('/').collect();
        let place = parts.iter().position(|part| *part == "customers")? + 1;
        let id = percent_decode_str(parts.get(place)?).decode_utf8().ok()?;
        if !erasure.had(&id) {
            return None;
        }
        parts[place] = erasure.into.as_str();
        Some(SqlValue::from(parts.join("/")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AwsIds;
    use crate::store::ProvisionCustomer;
    use crate::store::customers::erase::erase_in;

    #[tokio::test]
    async fn what_a_stop_left_over_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let store = Store::open(&path).unwrap();
        let (acme, now) = (CustomerId::new("acme"), Timestamp::from_second(1_800_000_000).unwrap());
        let request = ProvisionCustomer {
            id: acme.clone(),
            name: Some("Acme".into()),
            email: None,
            aws: AwsIds::default(),
            metadata: None,
        };
        store.provision_customer(request, now).await.unwrap();
        let used = "INSERT INTO usage_events (id, fingerprint, customer_id, quantity, billed, at_ms, timed, received_at_ms)
             VALUES ('a', x'00', 'acme', 1, 0, 0, 1, 0), ('b', x'00', 'globex', 1, 0, 0, 1, 0)";
        store.write(move |it| it.execute_batch(used).during("test")).await.unwrap();
        let id = acme.clone();
        let erased = store.write(move |it| erase_in(it, &id, false, now)).await.unwrap();
        let led = store.customer(acme.clone()).await.unwrap().unwrap();
        assert_eq!(
            (&led.id, &led.name),
            (&erased, &None),
            "until all is done the old id leads there"
        );
        store.close();

        let store = Store::open(&path).unwrap();
        store.finish_erasures(now).await.unwrap();
        assert_eq!(store.customer(acme).await.unwrap(), None);
        let whose = store.read(|it| {
            it.prepare_cached("SELECT customer_id FROM usage_events ORDER BY id")
                .and_then(|mut select| {
                    select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
                })
                .during("test")
        });
        assert_eq!(whose.await.unwrap(), [erased.as_str(), "globex"]);
        store.finish_erasures(now).await.unwrap();
    }

    #[test]
    fn a_word_names_somebody_where_it_stands_as_a_whole() {
        let words = ["acme ltd", "ops@acme.example", "123456789012"].map(str::to_owned).into();
        let erasure = Erasure { into: CustomerId::new("erased-1"), ids: Vec::new(), words };
        let rows = [
            (r#"{"name":"Acme Ltd"}"#, true),
            ("to OPS@acme.example, urgently", true),
            (r#"{"accountId":"123456789012"}"#, true),
            ("1123456789012", false),
            ("Pacme Ltd", false),
            ("acme ltda", false),
            ("acme", false),
            ("", false),
        ];
        for (text, named) in rows {
            assert_eq!(erasure.is_named_in(text), named, "{text}");
        }
    }
}
