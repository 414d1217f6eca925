//! Finding products, plans, features and dimensions by a part of what they are called.

use crate::domain::{DimensionKey, FeatureId, Id, PlanId, ProductId};
use crate::store::base::filter::{has_part, part};
use crate::store::engine::sql::{self, Connection};
use crate::store::{During, Store, StoreError};

/// The most of each kind that are returned. A catalogue is small, and is looked through whole.
const MOST: u32 = 20;

/// What of the catalogue was found, with what each is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundInCatalogue {
    /// Products, by their title, id or code.
    pub products: Vec<(ProductId, String)>,
    /// Plans, by their name or id.
    pub plans: Vec<(PlanId, String)>,
    /// Features, by their name or id.
    pub features: Vec<(FeatureId, String)>,
    /// Dimensions, by their name or key, with their products.
    pub dimensions: Vec<(DimensionKey, ProductId)>,
}

/// The most names that are listed to choose from.
const LISTED: u32 = 500;

impl Store {
    /// Returns the titles of products, by title.
    pub async fn product_names(&self) -> Result<Vec<(ProductId, String)>, StoreError> {
        self.read(|connection| {
            names_in(connection, "SELECT id, title FROM products ORDER BY title, id LIMIT ?1")
        })
        .await
    }

    /// Returns the names of plans, by name.
    pub async fn plan_names(&self) -> Result<Vec<(PlanId, String)>, StoreError> {
        self.read(|connection| {
            names_in(connection, "SELECT id, name FROM plans ORDER BY name, id LIMIT ?1")
        })
        .await
    }

    /// Returns the names of features, by name.
    pub async fn feature_names(&self) -> Result<Vec<(FeatureId, String)>, StoreError> {
        self.read(|connection| {
            names_in(connection, "SELECT id, name FROM features ORDER BY name, id LIMIT ?1")
        })
        .await
    }

    /// Finds whatever of the catalogue has the text in its name or id, in upper or lower case.
    pub async fn find_in_catalogue(&self, text: &str) -> Result<FoundInCatalogue, StoreError> {
        let part = part(text);
        self.read(move |connection| {
            let named_so = |columns: &[&str]| {
                let conditions: Vec<String> = columns.iter().map(|it| has_part(it, "?1")).collect();
                conditions.join(" OR ")
            };
            let pairs = |what: &str, columns: &[&str], order: &str| {
                let which = named_so(columns);
                let statement = format!("SELECT {what} WHERE {which} ORDER BY {order} LIMIT ?2");
                pairs_in(connection, &statement, &part)
            };
            let ids = ["title", "id", "code", "entity_id"];
            let products = pairs("id, title FROM products", &ids, "id")?;
            let plans = pairs("id, name FROM plans", &["name", "id"], "id")?;
            let features = pairs("id, name FROM features", &["name", "id"], "id")?;
            let keys = ["name", "key"];
            let dimensions = pairs("key, product_id FROM dimensions", &keys, "product_id, key")?;
            let dimensions = dimensions.into_iter();
            Ok(FoundInCatalogue {
                products: named(products),
                plans: named(plans),
                features: named(features),
                dimensions: dimensions
                    .map(|(key, product)| (DimensionKey::new(key), ProductId::new(product)))
                    .collect(),
            })
        })
        .await
    }
}

fn named<K>(pairs: Vec<(String, String)>) -> Vec<(Id<K>, String)> {
    pairs.into_iter().map(|(id, name)| (Id::new(id), name)).collect()
}

fn names_in<K>(
    connection: &Connection,
    statement: &'static str,
) -> Result<Vec<(Id<K>, String)>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| {
            let pair = |row: &sql::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            select.query_map([LISTED], pair)?.collect()
        })
        .map(named)
        .during("list names of the catalogue")
}

fn pairs_in(
    connection: &Connection,
    statement: &str,
    part: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| {
            let pair = |row: &sql::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            select.query_map((part, MOST), pair)?.collect()
        })
        .during("look through the catalogue")
}
