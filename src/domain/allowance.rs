//! Billing of a metered feature: which part of its usage is billed, and what the plan includes.

use super::Quantity;
use super::terms::{Bill, EntitlementTerms};
use super::window::Window;

/// A plan's terms for a feature, as one subscription has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The plan entitlement.
    pub terms: EntitlementTerms,
    /// The number of units of the plan that were bought.
    pub units: Option<Quantity>,
    /// The windows that it is counted in.
    pub window: Window,
}

impl Granted {
    /// Returns the limit of this subscription: as it stands in the plan, or that for each unit bought.
    pub fn limit(&self) -> Option<Quantity> {
        self.terms.limit_for(self.units)
    }
}

/// The part of a feature's usage that is billed under one licence or buyer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Billing {
    /// All of it.
    All,
    /// None of it: the plan covers it.
    None,
    /// The part beyond the included quantity, counted from zero in each window.
    Overage {
        /// The quantity that the plan includes.
        included: Quantity,
        /// The windows that usage is counted in.
        window: Window,
    },
}

impl Billing {
    /// Combines the plans under one licence or buyer. Usage that no plan speaks of is billed: the buyer
    /// bought the dimension, and nothing says that it is included.
    ///
    /// Several included quantities add up; they count in the windows of the first.
    pub fn of(granted: &[Granted]) -> Self {
        let overage: Vec<&Granted> =
            granted.iter().filter(|it| it.terms.bill == Bill::Overage).collect();
        let Some(first) = overage.first() else {
            let covered =
                !granted.is_empty() && granted.iter().all(|it| it.terms.bill == Bill::None);
            return if covered { Self::None } else { Self::All };
        };
        if overage.iter().any(|it| it.terms.unlimited) {
            return Self::None;
        }
        let included = overage.iter().filter_map(|it| it.limit()).sum();
        Self::Overage { included, window: first.window }
    }
}

/// Returns the part of a further quantity that is beyond what is included, after so much was used. Summed over a window
/// it is exactly what the window's usage exceeds, in whatever order the usage came.
pub fn excess(used: Quantity, further: Quantity, included: Quantity) -> Quantity {
    let after = used.saturating_add(further);
    after.saturating_sub(included).saturating_sub(used.saturating_sub(included))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units(count: u32) -> Quantity {
        Quantity::from_units(count)
    }

    #[test]
    fn only_what_is_beyond_is_billed() {
        for (used, further, included, billed) in [
            (0, 99, 100, 0),
            (0, 100, 100, 0),
            (0, 101, 100, 1),
            (99, 1, 100, 0),
            (99, 2, 100, 1),
            (100, 1, 100, 1),
            (250, 10, 100, 10),
            (0, 7, 0, 7),
        ] {
            let found = excess(units(used), units(further), units(included));
            assert_eq!(found, units(billed), "{further} after {used} of {included}");
        }
    }

    fn granted(bill: Bill, limit: Option<u32>) -> Granted {
        let terms = EntitlementTerms { bill, limit: limit.map(units), ..Default::default() };
        Granted { window: Window::of(&terms, None), terms, units: Some(units(3)) }
    }

    #[test]
    fn plans_under_one_licence_add_up() {
        let overage = |limit| granted(Bill::Overage, Some(limit));
        let mut unlimited = granted(Bill::Overage, None);
        unlimited.terms.unlimited = true;
        let mut seats = overage(10);
        seats.terms.per_unit = true;
        let shown = |granted: &[Granted]| match Billing::of(granted) {
            Billing::All => "all".to_owned(),
            Billing::None => "none".to_owned(),
            Billing::Overage { included, .. } => included.to_string(),
        };
        assert_eq!(shown(&[]), "all");
        assert_eq!(shown(&[granted(Bill::All, Some(5))]), "all");
        assert_eq!(shown(&[granted(Bill::None, Some(5))]), "none");
        assert_eq!(shown(&[granted(Bill::None, None), granted(Bill::All, None)]), "all");
        assert_eq!(shown(&[overage(100), overage(20)]), "120");
        assert_eq!(shown(&[overage(100), granted(Bill::All, Some(5))]), "100");
        assert_eq!(shown(&[unlimited]), "none");
        assert_eq!(shown(&[seats]), "30");
    }

    proptest! {
        #[test]
        fn the_order_of_usage_does_not_change_the_sum(
            parts in prop::collection::vec(0_u32..50, 0..30),
            included in 0_u32..300,
        ) {
            let mut used = Quantity::ZERO;
            let mut billed = Quantity::ZERO;
            for part in &parts {
                billed = billed.saturating_add(excess(used, units(*part), units(included)));
                used = used.saturating_add(units(*part));
            }
            prop_assert_eq!(billed, used.saturating_sub(units(included)));
        }
    }
}
