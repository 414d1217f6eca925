//! The outcome of applying a manifest: the changes, or the reason why it could not be applied.

use super::features::FeatureError;
use super::import::ImportError;
use super::plan_rows::PlanError;
use crate::domain::manifest::Change;
use crate::domain::rollout::Regranted;
use crate::domain::{EntityId, FeatureId, PlanId, ProductId};
use crate::store::StoreError;

/// The changes that applying a manifest makes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManifestOutcome {
    /// The changes to products, plans and features.
    pub changes: Vec<Change>,
    /// The customers whose features change.
    pub regranted: Vec<Regranted>,
}

/// The reason why a file could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A product is another listing's.
    #[error("product {product} is listing {held}, and the file says {said}")]
    OtherListing {
        /// The product.
        product: ProductId,
        /// Its listing.
        held: EntityId,
        /// The listing that the file names.
        said: EntityId,
    },
    /// Customers have the plan.
    #[error("plan {0} is published: it can be archived, and not be a draft again")]
    Published(PlanId),
    /// A draft of what is not published is the plan itself.
    #[error("plan {0} has a draft beside its entitlements, which only a published plan has")]
    DraftOfDraft(PlanId),
    /// The plan's draft and the file change the same features, each in its own way.
    #[error(
        "plan {plan} has a draft that changes {} too: publish or discard it, or say in the file what the draft is",
        features.iter().map(crate::domain::Id::as_str).collect::<Vec<_>>().join(", ")
    )]
    DraftContradicts {
        /// The plan.
        plan: PlanId,
        /// The features that both change.
        features: Vec<FeatureId>,
    },
    /// A listing could not be imported or mapped.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A feature could not be written.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// A plan could not be written.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An error with its place in the file.
    #[error("{}: {source}", place.join("."))]
    At {
        /// The keys that lead there.
        place: Vec<String>,
        /// The error.
        source: Box<Self>,
    },
    /// Nothing is wrong: these changes were undone, as was asked.
    #[error("this was a dry run")]
    DryRun(ManifestOutcome),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ManifestError {
    /// Adds the place of the file where it is wrong; what is within a place is told from without.
    pub(crate) fn at(error: impl Into<Self>, outer: &[&str]) -> Self {
        let outer = outer.iter().map(|key| (*key).to_owned());
        match error.into() {
            Self::At { place, source } => Self::At { place: outer.chain(place).collect(), source },
            error @ Self::Store(_) => error,
            error => Self::At { place: outer.collect(), source: Box::new(error) },
        }
    }
}
