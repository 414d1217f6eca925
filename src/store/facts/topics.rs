//! SNS topics, as SNS's own messages tell of them: those that send here, and those that were told to stop.

use jiff::Timestamp;

use crate::domain::event::EventType;
use crate::domain::event::data::TopicUnsubscribed;
use crate::domain::notification::TopicNews;
use crate::store::base::columns::{millis, timestamp};
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// Notes that a topic's subscription was made or ended, and tells of an end: from there on nothing comes.
pub(crate) fn write_topic(
    connection: &Connection,
    news: &TopicNews,
    at: Timestamp,
) -> Result<(), StoreError> {
    let statement = if news.subscribed {
        "INSERT INTO topics (topic_arn, subscribed_at_ms) VALUES (?1, ?2)
         ON CONFLICT (topic_arn) DO UPDATE SET subscribed_at_ms = excluded.subscribed_at_ms
         WHERE coalesce(topics.subscribed_at_ms, 0) < excluded.subscribed_at_ms"
    } else {
        "INSERT INTO topics (topic_arn, unsubscribed_at_ms) VALUES (?1, ?2)
         ON CONFLICT (topic_arn) DO UPDATE SET unsubscribed_at_ms = excluded.unsubscribed_at_ms
         WHERE coalesce(topics.unsubscribed_at_ms, 0) < excluded.unsubscribed_at_ms"
    };
    let changed = connection
        .prepare_cached(statement)
        .and_then(|mut upsert| upsert.execute((&news.topic_arn, millis(at))))
        .during("note a topic's subscription")?;
    if !news.subscribed && changed > 0 {
        let data = TopicUnsubscribed { topic_arn: &news.topic_arn };
        append_event_in(connection, EventType::TopicUnsubscribed, None, &data, at)?;
    }
    Ok(())
}

impl Store {
    /// Lists the topics whose subscription was ended since a time and not made again, each with the time of its end.
    pub async fn unsubscribed_topics(
        &self,
        since: Timestamp,
    ) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(move |connection| {
            let mut select = connection
                .prepare_cached(
                    "SELECT topic_arn, unsubscribed_at_ms FROM topics
                     WHERE unsubscribed_at_ms > greatest(?1, subscribed_at_ms)
                     ORDER BY topic_arn",
                )
                .during("list unsubscribed topics")?;
            let rows = select
                .query_map([millis(since)], |row| Ok((row.get(0)?, timestamp(row.get(1)?))))
                .during("list unsubscribed topics")?;
            rows.collect::<Result<_, _>>().during("list unsubscribed topics")
        })
        .await
    }
}
