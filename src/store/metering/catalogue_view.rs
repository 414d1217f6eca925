//! The catalogue as attribution asks about it. Each answer is read once for as long as a view lives, which is within one
//! write: nothing of it changes meanwhile, and a report asks the same for each of a thousand customers.

use std::cell::RefCell;
use std::rc::Rc;

use crate::domain::{ClockHour, DimensionKey, FeatureId, ProductId};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// A view of the catalogue.
pub(crate) struct CatalogueView<'a> {
    pub(crate) connection: &'a Connection,
    // Few of each, so that looking through them is cheaper than making a key.
    features: RefCell<Vec<(FeatureId, Rc<FeatureView>)>>,
    dimensions: RefCell<Vec<(ProductId, DimensionKey, DimensionView)>>,
    licensed_from: RefCell<Vec<(ProductId, Option<ClockHour>)>>,
}

/// A feature, if there is one.
pub(crate) struct FeatureView {
    /// Its type; none where there is no such feature.
    pub(crate) kind: Option<String>,
    /// The dimensions that it is billed by, one a product.
    pub(crate) dimensions: Vec<(ProductId, DimensionKey)>,
}

/// The state of a dimension in a product, as far as metering asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DimensionView {
    /// The product meters it.
    Metered,
    /// The product has no metered dimension of this key.
    Unknown,
    /// There is no such product.
    OfNoProduct,
}

impl<'a> CatalogueView<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            features: RefCell::default(),
            dimensions: RefCell::default(),
            licensed_from: RefCell::default(),
        }
    }

    /// Returns a feature.
    pub(crate) fn feature(&self, feature: &FeatureId) -> Result<Rc<FeatureView>, StoreError> {
        let known = self.features.borrow();
        if let Some((_, view)) = known.iter().find(|(id, _)| id == feature) {
            return Ok(Rc::clone(view));
        }
        drop(known);
        let view = Rc::new(feature_in(self.connection, feature)?);
        self.features.borrow_mut().push((feature.clone(), Rc::clone(&view)));
        Ok(view)
    }

    /// Finds the state of a dimension in a product.
    pub(crate) fn dimension(
        &self,
        product: &ProductId,
        dimension: &DimensionKey,
    ) -> Result<DimensionView, StoreError> {
        let known = self.dimensions.borrow();
        let is_it = |(of, key, _): &&(ProductId, DimensionKey, DimensionView)| {
            of == product && key == dimension
        };
        if let Some((.., view)) = known.iter().find(is_it) {
            return Ok(*view);
        }
        drop(known);
        let view = dimension_in(self.connection, product, dimension)?;
        self.dimensions.borrow_mut().push((product.clone(), dimension.clone(), view));
        Ok(view)
    }

    /// Returns the hour from which on a legacy product's buyers are metered by licence.
    pub(crate) fn licensed_from(
        &self,
        product: &ProductId,
    ) -> Result<Option<ClockHour>, StoreError> {
        let known = self.licensed_from.borrow();
        if let Some((_, hour)) = known.iter().find(|(of, _)| of == product) {
            return Ok(*hour);
        }
        drop(known);
        let hour = licensed_from_in(self.connection, product)?;
        self.licensed_from.borrow_mut().push((product.clone(), hour));
        Ok(hour)
    }
}

fn feature_in(connection: &Connection, feature: &FeatureId) -> Result<FeatureView, StoreError> {
    let kind: Option<String> = connection
        .prepare_cached("SELECT type FROM features WHERE id = ?1")
        .and_then(|mut select| select.query_row([feature.as_str()], |row| row.get(0)).optional())
        .during("look up a feature")?;
    let dimensions = connection
        .prepare_cached(
            "SELECT product_id, dimension FROM feature_dimensions WHERE feature_id = ?1
             ORDER BY product_id",
        )
        .and_then(|mut select| {
            select
                .query_map([feature.as_str()], |row| {
                    let product = ProductId::new(row.get::<_, String>(0)?);
                    Ok((product, DimensionKey::new(row.get::<_, String>(1)?)))
                })?
                .collect()
        })
        .during("read a feature's dimensions")?;
    Ok(FeatureView { kind, dimensions })
}

fn dimension_in(
    connection: &Connection,
    product: &ProductId,
    dimension: &DimensionKey,
) -> Result<DimensionView, StoreError> {
    let known = connection
        .prepare_cached("SELECT 1 FROM products WHERE id = ?1")
        .and_then(|mut select| select.exists([product.as_str()]))
        .during("look up a product")?;
    if !known {
        return Ok(DimensionView::OfNoProduct);
    }
    let metered = connection
        .prepare_cached(
            "SELECT 1 FROM dimensions WHERE product_id = ?1 AND key = ?2 AND metered = 1",
        )
        .and_then(|mut select| select.exists((product.as_str(), dimension.as_str())))
        .during("look up a dimension")?;
    Ok(if metered { DimensionView::Metered } else { DimensionView::Unknown })
}

/// Returns the hour from which on a legacy product's buyers are metered by licence, if one is set.
pub(crate) fn licensed_from_in(
    connection: &Connection,
    product: &ProductId,
) -> Result<Option<ClockHour>, StoreError> {
    connection
        .prepare_cached("SELECT licensed_from_hour FROM products WHERE id = ?1")
        .and_then(|mut select| {
            select.query_row([product.as_str()], |row| row.get::<_, Option<i64>>(0)).optional()
        })
        .map(|hour| hour.flatten().map(ClockHour::from_number))
        .during("read how a product is metered")
}
