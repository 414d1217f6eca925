//! The name by which a sale is held and metered: its licence, or the buyer's legacy name.
//!
//! An hour that AWS is told of in both forms is billed twice, and one that it is told of in the wrong form is refused.
//! What a buyer is called besides says nothing about it: a buyer of an older and a newer product has a legacy name, which
//! AWS may find the newer product's rows by, and may even repeat in them.
//!
//! The rule is safe however AWS writes those rows. If it leaves the legacy name out, as its documentation says, no row of
//! the newer product has one, and none is given one here. If it writes the name of whoever has one, then the name is taken
//! for what it is until AWS is heard to name the product's buyers by licence and never otherwise; the sale then goes over
//! to its licence, and no hour that was begun in one form is gone on with in the other. A product of the older form is
//! never taken for one of the newer: AWS names its buyers in each message and sign-up.

use super::{CustomerIdentifier, Grant};

/// The forms in which AWS has named a product's buyers, apart from its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// A message of a legacy topic, or a sign-up, named one by `CustomerIdentifier`.
    pub by_name: bool,
    /// A licence's event, or a sign-up without that name, named one.
    pub by_license: bool,
    /// The product has moved from the one form to the other by now.
    pub moved: bool,
}

impl Naming {
    /// Reports whether the product was sold by licence from the first.
    pub const fn is_licensed(self) -> bool {
        self.by_license && !self.by_name
    }

    /// Returns the legacy name that the sale of a row is held by, if by any; `held` is the one by which its licence is
    /// held.
    pub fn legacy_name(
        self,
        row: &Grant,
        held: Option<CustomerIdentifier>,
    ) -> Option<CustomerIdentifier> {
        if self.is_licensed() {
            return None;
        }
        match &row.customer_identifier {
            // Nothing else names it.
            Some(own) if row.license_arn.is_none() => Some(own.clone()),
            // Bought after the move: AWS knows it by licence alone, and another one beside it too.
            Some(own) if self.moved && held.as_ref() != Some(own) => held,
            Some(own) => Some(own.clone()),
            // The name goes when the product moves. The sale stays what it was for as long as its licence does.
            None => held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AccountId, DimensionKey, GrantValue, LicenseArn, ProductCode};

    #[test]
    fn a_sale_is_held_by_the_name_that_aws_sells_it_under() {
        const UNHEARD: Naming = Naming { by_name: false, by_license: false, moved: false };
        const LEGACY: Naming = Naming { by_name: true, ..UNHEARD };
        const LICENSED: Naming = Naming { by_license: true, ..UNHEARD };
        const IN_BOTH: Naming = Naming { by_name: true, by_license: true, moved: false };
        const MOVED: Naming = Naming { moved: true, ..IN_BOTH };
        let (x, y) = (Some("x"), Some("y"));
        let l = Some("l-1");
        // (naming, the row's own name, its licence, the name by which the licence is held, the name that counts)
        let rows = [
            (UNHEARD, None, l, None, None),
            (UNHEARD, x, l, None, x),
            (UNHEARD, x, None, None, x),
            (UNHEARD, None, l, x, x),
            (LEGACY, x, l, None, x),
            (LEGACY, x, l, y, x),
            (LEGACY, None, l, None, None),
            (LEGACY, None, l, x, x),
            (LICENSED, None, l, None, None),
            (LICENSED, x, l, None, None),
            (LICENSED, x, l, x, None),
            (LICENSED, None, l, x, None),
            (LICENSED, x, None, None, None),
            (IN_BOTH, x, l, None, x),
            (IN_BOTH, None, l, None, None),
            (IN_BOTH, None, l, x, x),
            (MOVED, x, l, None, None),
            (MOVED, x, l, x, x),
            (MOVED, x, l, y, y),
            (MOVED, None, l, x, x),
            (MOVED, None, l, None, None),
            (MOVED, x, None, None, x),
        ];
        for (naming, own, license, held, expected) in rows {
            let row = Grant {
                product_code: ProductCode::new("code"),
                dimension: DimensionKey::new("basic"),
                customer_identifier: own.map(CustomerIdentifier::new),
                account_id: Some(AccountId::new("123456789012")),
                license_arn: license.map(LicenseArn::new),
                value: GrantValue::Integer(1),
                expires_at: None,
            };
            let found = naming.legacy_name(&row, held.map(CustomerIdentifier::new));
            let found = found.as_ref().map(CustomerIdentifier::as_str);
            assert_eq!(found, expected, "{naming:?}, {own:?} {license:?}, held by {held:?}");
        }
    }
}
