//! The progress of the listings of a product's agreements, and the licences that AWS lists nothing of.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::domain::listing::{HeldLicense, Progress, rest_of_hidden};
use crate::domain::reconciliation::SETTLING;
use crate::domain::{AgreementId, LicenseArn, ProductCode, ProductId};
use crate::store::base::columns::{millis, optional_timestamp};
use crate::store::engine::sql::{self, Connection, OptionalExtension, named_params};
use crate::store::{During, Store, StoreError};

/// The time after which a licence's rest is forgotten: by then no sweep would ask about the licence.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The licences under which a product's subscriptions live and of which no end was told, and those that have not come
/// into force. Whether they are settled follows `LicenseFacts::standing`.
const HELD_LICENSES: &str =
    "SELECT s.license_arn, (s.status = 'pending' OR coalesce(s.ends_at_ms <= :now, FALSE)
             OR coalesce(a.ends_at_ms <= :now, FALSE)) AS unsettled,
         coalesce(h.rests_until_ms > :now, FALSE) AS rests
     FROM products p
     JOIN subscriptions s ON s.product_id = p.id
     LEFT JOIN agreements a ON a.agreement_id = s.agreement_id
     LEFT JOIN hidden_licenses h ON h.license_arn = s.license_arn
     WHERE p.code = :code AND s.source = 'aws' AND s.ended_at_ms IS NULL
       AND s.license_arn IS NOT NULL AND a.ended_status IS NULL
     UNION ALL
     SELECT l.license_arn, TRUE, coalesce(h.rests_until_ms > :now, FALSE)
     FROM licenses l
     JOIN agreements a ON a.agreement_id = l.agreement_id
     LEFT JOIN hidden_licenses h ON h.license_arn = l.license_arn
     WHERE l.product_code = :code AND a.ended_status IS NULL
       AND ((l.change IS NULL AND l.observed IS NULL) OR l.observed IN ('SCHEDULED', 'PENDING'))
       AND (l.change IS NULL OR l.observed_at_ms >= l.change_at_ms + :settling)";

impl Store {
    /// Reads how far the listings of a product's agreements have got.
    pub async fn listing_progress(
        &self,
        product_code: ProductCode,
    ) -> Result<Progress, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT l.* FROM agreement_listings l JOIN products p ON p.id = l.product_id
                     WHERE p.code = ?1",
                )
                .and_then(|mut select| {
                    let progress = |row: &sql::Row<'_>| {
                        Ok(Progress {
                            changed_until: optional_timestamp(row.get("changed_until_ms")?),
                            whole_at: optional_timestamp(row.get("whole_at_ms")?),
                            refused_at: optional_timestamp(row.get("refused_at_ms")?),
                        })
                    };
                    select.query_row([product_code.as_str()], progress).optional()
                })
                .map(Option::unwrap_or_default)
                .during("read how far agreements are listed")
        })
        .await
    }

    /// Lists a product's licences that a listing's result is held against.
    pub async fn held_licenses(
        &self,
        product_code: ProductCode,
        now: Timestamp,
    ) -> Result<BTreeMap<LicenseArn, HeldLicense>, StoreError> {
        self.read(move |connection| {
            let mut select =
                connection.prepare_cached(HELD_LICENSES).during("list held licences")?;
            let mut rows = select
                .query(named_params! {
                    ":code": product_code.as_str(),
                    ":now": millis(now),
                    ":settling": SETTLING.as_secs() * 1_000,
                })
                .during("list held licences")?;
            let mut held: BTreeMap<LicenseArn, HeldLicense> = BTreeMap::new();
            while let Some(row) = rows.next().during("list held licences")? {
                let read = || -> sql::Result<(String, bool, bool)> {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                };
                let (arn, is_unsettled, rests) = read().during("list held licences")?;
                // Several subscriptions may stand on it.
                let license = held.entry(LicenseArn::new(arn)).or_default();
                license.is_unsettled |= is_unsettled;
                license.rests = rests;
            }
            Ok(held)
        })
        .await
    }

    /// Writes down that AWS lists nothing of a licence, so that it is not asked about again for a while. One that AWS
    /// has listed before is the seller's to see, and goes on being asked about.
    pub async fn rest_license(
        &self,
        arn: LicenseArn,
        asked_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |connection| rest_in(connection, &arn, asked_at)).await
    }
}

fn rest_in(
    connection: &Connection,
    arn: &LicenseArn,
    asked_at: Timestamp,
) -> Result<(), StoreError> {
    let during = "let a hidden licence rest";
    // Events do not tell an agreement's first one.
    let was_listed = connection
        .prepare_cached(
            "SELECT 1 FROM licenses JOIN agreements USING (agreement_id)
             WHERE license_arn = ?1 AND initial_agreement_id IS NOT NULL",
        )
        .and_then(|mut select| select.exists([arn.as_str()]))
        .during(during)?;
    if was_listed {
        return Ok(());
    }
    let times: Option<u32> = connection
        .prepare_cached("SELECT times FROM hidden_licenses WHERE license_arn = ?1")
        .and_then(|mut select| select.query_row([arn.as_str()], |row| row.get(0)).optional())
        .during(during)?;
    let times = times.unwrap_or(0).saturating_add(1);
    let until = asked_at.saturating_add(rest_of_hidden(times)).unwrap_or(Timestamp::MAX);
    connection
        .prepare_cached(
            "INSERT INTO hidden_licenses (license_arn, times, rests_until_ms) VALUES (?1, ?2, ?3)
             ON CONFLICT (license_arn) DO UPDATE SET times = ?2, rests_until_ms = ?3",
        )
        .and_then(|mut upsert| upsert.post((arn.as_str(), times, millis(until))))
        .during(during)?;
    Ok(())
}

/// Ends the rest of a licence, since AWS told or showed something of it.
pub(crate) fn end_rest_of_license_in(
    connection: &Connection,
    arn: &LicenseArn,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM hidden_licenses WHERE license_arn = ?1")
        .and_then(|mut delete| delete.execute([arn.as_str()]))
        .during("wake a hidden licence")?;
    Ok(())
}

/// Ends the rest of an agreement's licences, since AWS told or showed something of it.
pub(crate) fn end_rest_on_agreement_in(
    connection: &Connection,
    agreement: &AgreementId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "DELETE FROM hidden_licenses WHERE license_arn IN
                 (SELECT license_arn FROM licenses WHERE agreement_id = ?1)",
        )
        .and_then(|mut delete| delete.post([agreement.as_str()]))
        .during("wake an agreement's hidden licences")?;
    Ok(())
}

/// Writes down how far a listing got that was read to its end, beside what it showed.
pub(crate) fn write_progress_in(
    connection: &Connection,
    product_code: &ProductCode,
    progress: Progress,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO agreement_listings (product_id, changed_until_ms, whole_at_ms, refused_at_ms)
             SELECT id, :changed, :whole, :refused FROM products WHERE code = :code
             ON CONFLICT (product_id) DO UPDATE SET changed_until_ms = :changed, whole_at_ms = :whole,
                 refused_at_ms = :refused",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":code": product_code.as_str(),
                ":changed": progress.changed_until.map(millis),
                ":whole": progress.whole_at.map(millis),
                ":refused": progress.refused_at.map(millis),
            })
        })
        .during("write how far agreements are listed")?;
    let long_ago = now.saturating_sub(FORGOTTEN_AFTER).unwrap_or(Timestamp::MIN);
    connection
        .prepare_cached("DELETE FROM hidden_licenses WHERE rests_until_ms < ?1")
        .and_then(|mut delete| delete.execute([millis(long_ago)]))
        .during("forget hidden licences")?;
    Ok(())
}

/// Marks all agreements to be listed next, of one product or of each.
pub(crate) fn list_whole_in(
    connection: &Connection,
    product: Option<&ProductId>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "DELETE FROM agreement_listings WHERE CAST(?1 AS TEXT) IS NULL OR product_id = ?1",
        )
        .and_then(|mut delete| delete.post([product.map(ProductId::as_str)]))
        .during("have all agreements listed")?;
    Ok(())
}
