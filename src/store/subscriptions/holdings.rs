//! Holdings: the subscriptions that a customer holds and held, as far as they can bear usage.

use jiff::Timestamp;

use crate::domain::ledger::{Candidate, Moments, Tenure};
use crate::domain::{CustomerId, Holder, LicenseArn, ProductId, Source, Status};
use crate::store::base::columns::optional_timestamp;
use crate::store::engine::sql::{self, Connection};
use crate::store::{During, StoreError};

/// A customer's subscriptions, the ended ones included.
#[derive(Clone, Debug)]
pub(crate) struct Holdings {
    all: Vec<(Option<ProductId>, Candidate)>,
    moments: Moments,
}

impl Holdings {
    /// Returns those that usage of a product can be billed to. What was bought on the seller's own site serves every
    /// product.
    pub(crate) fn of(&self, product: &ProductId) -> impl Iterator<Item = &Candidate> {
        let serves = move |(of, candidate): &&(Option<ProductId>, Candidate)| {
            candidate.source == Source::Direct || of.as_ref() == Some(product)
        };
        self.all.iter().filter(serves).map(|(_, candidate)| candidate)
    }

    /// Returns the holders at AWS.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.all.iter().filter_map(|(_, candidate)| candidate.holder.as_ref())
    }

    /// Reports whether there is none, and never was.
    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the beginning of the stretch of time around a moment. Usage of one stretch is attributed alike, so that
    /// a report need not ask for each event.
    pub(crate) fn stretch(&self, at: Timestamp) -> Timestamp {
        self.moments.before(at)
    }
}

const HOLDINGS: &str =
    "SELECT product_id, holder, license_arn, source, status, dimension IS NULL, starts_at_ms, ends_at_ms,
         ended_at_ms, renewed_by
     FROM subscriptions WHERE customer_id = ?1 AND status <> 'failed' ORDER BY holder, rowid";

/// Asks ahead for what [`holdings_in`] reads.
pub(crate) fn ask_holdings(connection: &Connection, id: &CustomerId) -> Result<(), StoreError> {
    connection.ask_ahead(HOLDINGS, &[id.as_str()]).during("read a customer's subscriptions")
}

/// Reads a customer's holdings; what never came into force holds nothing.
pub(crate) fn holdings_in(
    connection: &Connection,
    customer: &CustomerId,
) -> Result<Holdings, StoreError> {
    let all: Vec<(Option<ProductId>, Candidate)> = connection
        .prepare_cached(HOLDINGS)
        .and_then(|mut select| select.query_map([customer.as_str()], row)?.collect())
        .during("read a customer's subscriptions")?;
    let moments = Moments::of(all.iter().map(|(_, candidate)| candidate));
    Ok(Holdings { all, moments })
}

fn row(row: &sql::Row<'_>) -> sql::Result<(Option<ProductId>, Candidate)> {
    let time = |column: usize| row.get(column).map(optional_timestamp);
    let source = match row.get_ref(3)?.as_str()? {
        "direct" => Source::Direct,
        _ => Source::Aws,
    };
    let status = Status::parse(row.get_ref(4)?.as_str()?).unwrap_or(Status::Pending);
    let (ends_at, ended_at) = (time(7)?, time(8)?);
    let candidate = Candidate {
        source,
        holder: Holder::parse(row.get_ref(1)?.as_str()?),
        license: row.get::<_, Option<String>>(2)?.map(LicenseArn::new),
        status,
        starts_at: time(6)?,
        ends_at: ends_at.filter(|_| source == Source::Direct),
        tenure: Tenure::of(status, row.get(5)?, ends_at, ended_at),
        renewed_by: row.get::<_, Option<String>>(9)?.as_deref().and_then(Holder::parse),
    };
    Ok((row.get::<_, Option<String>>(0)?.map(ProductId::new), candidate))
}
