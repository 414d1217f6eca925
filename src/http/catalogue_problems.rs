//! What may be wrong with the catalogue, as problem details.

use axum::http::StatusCode;
use serde_json::json;

use super::Problem;
use crate::catalog::CatalogError;
use crate::store::{FeatureError, ImportError, ManifestError, PlanError, RemoveProductError};

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Aws(error) => error.into(),
            CatalogError::Store(error) => error.into(),
            error @ CatalogError::Held { .. } => {
                Self::new(StatusCode::CONFLICT, "endings-held", error.to_string())
            }
        }
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        let unprocessable =
            |kind| Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, error.to_string());
        match &error {
            ImportError::NotListed(_) | ImportError::NoProductCode(_) => {
                unprocessable("listing-not-ready")
            }
            ImportError::UnknownDimension { .. } | ImportError::NotMetered(_) => {
                unprocessable("unknown-dimension")
            }
            ImportError::FeatureNotMetered(_) => unprocessable("feature-type-fixed"),
            ImportError::IdTaken(_) | ImportError::CodeTaken { .. } => {
                Self::new(StatusCode::CONFLICT, "id-taken", error.to_string())
            }
            ImportError::ImportedAs { held, .. } => {
                Self::new(StatusCode::CONFLICT, "already-imported", error.to_string())
                    .with("field", json!("product_id"))
                    .with("product_id", json!(held))
            }
            ImportError::Held { .. } => {
                Self::new(StatusCode::CONFLICT, "endings-held", error.to_string())
            }
            ImportError::SoldDirectly(_) => {
                Self::new(StatusCode::CONFLICT, "sold-directly", error.to_string())
            }
            ImportError::Unfit { field, source } => Self::field_is(field, source.predicate()),
            ImportError::Store(_) | ImportError::Plan(_) => match error {
                ImportError::Store(error) => error.into(),
                ImportError::Plan(error) => error.into(),
                _ => unprocessable("import-refused"),
            },
        }
    }
}

impl From<RemoveProductError> for Problem {
    fn from(error: RemoveProductError) -> Self {
        let detail = error.to_string();
        match error {
            RemoveProductError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            RemoveProductError::InUse { .. } => {
                Self::new(StatusCode::CONFLICT, "product-in-use", detail)
            }
            RemoveProductError::Plan(error) => error.into(),
            RemoveProductError::Store(error) => error.into(),
        }
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        let detail = error.to_string();
        match error {
            PlanError::UnknownPlan(_)
            | PlanError::UnknownFeature(_)
            | PlanError::UnknownProduct(_) => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            PlanError::Unfit(unfit) => Self::field_is("id", unfit.predicate()),
            PlanError::SoldByAws(_) => Self::new(StatusCode::CONFLICT, "sold-by-aws", detail),
            PlanError::Terms(fault) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-entitlement", detail)
                    .with("field", json!(fault.field))
                    .with("rule", json!(fault.rule))
            }
            PlanError::Archived(_) => Self::new(StatusCode::CONFLICT, "plan-archived", detail)
                .with("options", json!(["reopen", "to"])),
            PlanError::InUse { .. } => Self::new(StatusCode::CONFLICT, "plan-in-use", detail),
            PlanError::Store(error) => error.into(),
        }
    }
}

impl From<ManifestError> for Problem {
    fn from(error: ManifestError) -> Self {
        let detail = error.to_string();
        match error {
            ManifestError::OtherListing { .. } => {
                Self::new(StatusCode::CONFLICT, "id-taken", detail)
            }
            ManifestError::Published(_) => {
                Self::new(StatusCode::CONFLICT, "plan-published", detail)
            }
            ManifestError::DraftOfDraft(_) => Self::bad_request(detail),
            ManifestError::DraftContradicts { .. } => {
                Self::new(StatusCode::CONFLICT, "draft-contradicts", detail)
            }
            ManifestError::At { place, source } => Self::from(*source).at(&place),
            ManifestError::Import(error) => error.into(),
            ManifestError::Feature(error) => error.into(),
            ManifestError::Plan(error) => error.into(),
            error @ ManifestError::DryRun(_) => Self::internal(&error),
            ManifestError::Store(error) => error.into(),
        }
    }
}

impl From<FeatureError> for Problem {
    fn from(error: FeatureError) -> Self {
        let detail = error.to_string();
        match error {
            FeatureError::UnknownDimension { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-dimension", detail)
            }
            FeatureError::Unfit(unfit) => Self::field_is("id", unfit.predicate()),
            FeatureError::NothingToCount(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-feature", detail)
                    .with("field", json!("unit"))
            }
            FeatureError::NotMetered { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-feature", detail)
                    .with("field", json!("dimensions"))
            }
            FeatureError::OtherType { id, .. } => {
                Self::new(StatusCode::CONFLICT, "feature-type-fixed", detail)
                    .with("feature_id", json!(id))
            }
            FeatureError::Store(error) => error.into(),
        }
    }
}
