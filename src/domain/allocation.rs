//! Usage allocations: how a metering record's quantity splits by the buyer's tags.
//!
//! AWS takes whole units, so parts of a unit wait for a later hour, and they wait under their tags. The parts
//! of a record always sum to its quantity, and the allocations and the remainder always sum to what was used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Quantity;
use super::ledger::split;

/// Cost allocation tags, by key.
pub type Tags = BTreeMap<String, String>;

/// The most tags in one allocation. (AWS Marketplace Metering Service API reference, `UsageAllocation`.)
pub const TAGS_MOST: usize = 5;
/// The most allocations in one record. (AWS Marketplace Metering Service API reference, `UsageRecord`.)
pub const ALLOCATIONS_MOST: usize = 2_500;
/// The most bytes that the allocations of one record may take in a call, of AWS's 1 MB.
const BYTES_MOST: usize = 800_000;

/// A part of a quantity, under one set of tags; the part without tags is what nobody tagged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Allocation {
    /// Its quantity.
    pub quantity: Quantity,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
}

impl Allocation {
    /// Estimates how many bytes it takes in a call.
    fn bytes(&self) -> usize {
        let tags = self.tags.iter().map(|(key, value)| 24 + 2 * (key.len() + value.len()));
        48 + tags.sum::<usize>()
    }
}

/// Estimates how many bytes a record's allocations take in a call.
pub fn bytes(allocations: &[Allocation]) -> usize {
    allocations.iter().map(Allocation::bytes).sum()
}

/// A tagged quantity, dealt to its tags: what goes out with its hour, and what is carried to a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apportioned {
    /// The whole units, in sum what [`split`] sends; empty where nothing is tagged.
    pub allocations: Vec<Allocation>,
    /// The tagged part of the remainder; the untagged part is the rest of what [`split`] leaves.
    pub remainder: Vec<Allocation>,
}

/// One set of tags while units are dealt out.
struct Share {
    tags: Tags,
    units: i64,
    /// The part of a unit that remains, in millionths.
    part: i64,
}

const UNIT: i64 = 1_000_000;

/// Deals a quantity's whole units out to its tags. Where parts of several make up a unit, it goes to the largest
/// part, and the smallest ones give what it lacks: nothing is made up, and no tag is off by a unit.
pub fn apportion(quantity: Quantity, tagged: &[Allocation]) -> Apportioned {
    if tagged.is_empty() {
        return Apportioned::default();
    }
    let mut shares = shares_of(quantity, tagged);
    deal_units(&mut shares);
    hold_back(&mut shares, quantity);
    let remainder = shares
        .iter()
        .filter(|share| !share.tags.is_empty() && share.part > 0)
        .filter_map(|share| {
            let quantity = Quantity::from_millionths(share.part)?;
            Some(Allocation { quantity, tags: share.tags.clone() })
        })
        .collect();
    let allocations = shares
        .into_iter()
        .filter(|share| share.units > 0)
        .filter_map(|share| {
            let quantity = Quantity::from_millionths(share.units.checked_mul(UNIT)?)?;
            Some(Allocation { quantity, tags: share.tags })
        })
        .collect();
    Apportioned { allocations: fit(allocations), remainder }
}

fn shares_of(quantity: Quantity, tagged: &[Allocation]) -> Vec<Share> {
    let mut by_tags: BTreeMap<Tags, i64> = BTreeMap::new();
    let mut left = quantity.millionths();
    for allocation in tagged {
        // Never more than there is: the record's quantity is what is billed.
        let part = allocation.quantity.millionths().min(left);
        left -= part;
        *by_tags.entry(allocation.tags.clone()).or_default() += part;
    }
    *by_tags.entry(Tags::new()).or_default() += left;
    by_tags
        .into_iter()
        .map(|(tags, held)| Share { tags, units: held / UNIT, part: held % UNIT })
        .collect()
}

/// Makes whole units of parts, as many as they add up to.
fn deal_units(shares: &mut [Share]) {
    let parts: i64 = shares.iter().map(|share| share.part).sum();
    let made = usize::try_from(parts / UNIT).unwrap_or(0);
    let mut order: Vec<usize> = (0..shares.len()).collect();
    // Among equals those with tags come first, then their order decides, so that the same parts always fall the
    // same way.
    order.sort_by_key(|at| {
        let share = shares.get(*at);
        let untagged = share.is_none_or(|share| share.tags.is_empty());
        (std::cmp::Reverse(share.map_or(0, |share| share.part)), untagged)
    });
    let (takers, givers) = order.split_at(made.min(order.len()));
    let mut lacking = 0;
    for at in takers {
        if let Some(share) = shares.get_mut(*at) {
            lacking += UNIT - share.part;
            share.units += 1;
            share.part = 0;
        }
    }
    for at in givers.iter().rev() {
        if let Some(share) = shares.get_mut(*at) {
            let given = share.part.min(lacking);
            share.part -= given;
            lacking -= given;
        }
    }
}

/// Holds back what AWS does not take in one record, units of the largest share first.
fn hold_back(shares: &mut [Share], quantity: Quantity) {
    let mut excess = quantity.whole_units() - split(quantity).whole.whole_units();
    while excess > 0 {
        let Some(largest) = shares.iter_mut().max_by_key(|share| share.units) else { return };
        let held = largest.units.min(excess);
        if held == 0 {
            return;
        }
        largest.units -= held;
        largest.part += held * UNIT;
        excess -= held;
    }
}

/// Keeps within AWS's limits: beyond them the smallest parts are sent without their tags. The sum stays.
fn fit(mut allocations: Vec<Allocation>) -> Vec<Allocation> {
    if allocations.iter().all(|allocation| allocation.tags.is_empty()) {
        return Vec::new();
    }
    if allocations.len() <= ALLOCATIONS_MOST && bytes(&allocations) <= BYTES_MOST {
        return allocations;
    }
    allocations.sort_by(|a, b| b.quantity.cmp(&a.quantity).then_with(|| a.tags.cmp(&b.tags)));
    let mut kept = Vec::new();
    let mut untagged = Quantity::ZERO;
    let mut room = BYTES_MOST;
    for allocation in allocations {
        let size = allocation.bytes();
        // One place is kept for the part without tags.
        if !allocation.tags.is_empty() && kept.len() + 1 < ALLOCATIONS_MOST && size <= room {
            room -= size;
            kept.push(allocation);
        } else {
            untagged = untagged.saturating_add(allocation.quantity);
        }
    }
    if untagged > Quantity::ZERO {
        kept.push(Allocation { quantity: untagged, tags: Tags::new() });
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn team(name: &str, quantity: &str) -> Allocation {
        let tags = if name.is_empty() {
            Tags::new()
        } else {
            Tags::from([("team".to_owned(), name.to_owned())])
        };
        Allocation { quantity: quantity.parse().unwrap(), tags }
    }

    fn shown(allocations: &[Allocation]) -> String {
        let show = |it: &Allocation| {
            format!("{}{}", it.tags.get("team").map_or("-", |team| team), it.quantity)
        };
        allocations.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn units_go_to_their_tags_and_parts_wait_under_them() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
        let rows: &[Row<'_>] = &[
            ("5", &[], "", ""),
            ("5", &[("a", "2"), ("b", "3")], "a2 b3", ""),
            ("5", &[("a", "2")], "-3 a2", ""),
            ("2.5", &[("a", "2.5")], "a2", "a0.5"),
            // Two halves are a unit; it falls to one of them.
            ("1", &[("a", "0.5"), ("b", "0.5")], "a1", ""),
            ("3.2", &[("a", "1.4"), ("b", "1.8")], "a1 b2", "a0.2"),
            ("0.7", &[("a", "0.3"), ("b", "0.4")], "", "a0.3 b0.4"),
            // What nobody tagged is a share like any other, but waits without being listed.
            ("2.9", &[("a", "1.5")], "-1 a1", "a0.5"),
            ("3", &[("a", "0.5")], "-2 a1", ""),
        ];
        for (quantity, tagged, allocations, remainder) in rows {
            let tagged: Vec<Allocation> = tagged.iter().map(|(name, it)| team(name, it)).collect();
            let found = apportion(quantity.parse().unwrap(), &tagged);
            assert_eq!(
                (shown(&found.allocations).as_str(), shown(&found.remainder).as_str()),
                (*allocations, *remainder)
            );
        }
    }

    fn sum(allocations: &[Allocation]) -> i64 {
        allocations.iter().map(|it| it.quantity.millionths()).sum()
    }

    proptest! {
        #[test]
        fn what_is_sent_and_what_waits_sum_to_what_was_used(
            parts in prop::collection::vec((0_u32..40, 0_i64..5_000_000), 1..60),
            untagged in 0_i64..3_000_000,
        ) {
            let tagged: Vec<Allocation> = parts
                .iter()
                .map(|(name, it)| Allocation {
                    quantity: Quantity::from_millionths(*it).unwrap(),
                    ..team(&name.to_string(), "0")
                })
                .collect();
            let total = Quantity::from_millionths(sum(&tagged) + untagged).unwrap();
            let parts = split(total);
            let found = apportion(total, &tagged);
            if !found.allocations.is_empty() {
                prop_assert_eq!(sum(&found.allocations), parts.whole.millionths());
            }
            prop_assert!(sum(&found.remainder) <= parts.rest.millionths());
            for allocation in &found.allocations {
                prop_assert_eq!(allocation.quantity.fraction(), Quantity::ZERO);
                let own: i64 = tagged.iter().filter(|it| it.tags == allocation.tags).map(|it| it.quantity.millionths()).sum();
                let own = if allocation.tags.is_empty() { own + untagged } else { own };
                prop_assert!((allocation.quantity.millionths() - own).abs() < UNIT, "off by a unit");
            }
        }

        #[test]
        fn a_record_keeps_within_what_aws_takes(count in 2_400_usize..2_700, length in 1_usize..250) {
            let tagged: Vec<Allocation> = (0..count)
                .map(|number| {
                    let value = format!("{number:0>length$}");
                    Allocation {
                        quantity: Quantity::from_units(1),
                        tags: Tags::from([("team".to_owned(), value)]),
                    }
                })
                .collect();
            let total = Quantity::from_units(u32::try_from(count).unwrap());
            let allocations = apportion(total, &tagged).allocations;
            prop_assert!(allocations.len() <= ALLOCATIONS_MOST);
            prop_assert!(bytes(&allocations) <= BYTES_MOST + 100);
            prop_assert_eq!(sum(&allocations), total.millionths());
        }
    }

    #[test]
    fn the_size_in_a_call_is_never_underrated() {
        for (key, value) in
            [("k", "v"), ("team", "blue"), ("path", r"\\\\\\"), ("k", &"x".repeat(256))]
        {
            let tag = |number: usize| (format!("{key}{number}"), value.to_owned());
            let tags: Tags = (0..TAGS_MOST).map(tag).collect();
            let wire: Vec<_> = tags
                .iter()
                .map(|(key, value)| serde_json::json!({"Key": key, "Value": value}))
                .collect();
            let wire = serde_json::json!({"AllocatedUsageQuantity": 2_147_483_647, "Tags": wire});
            let wire = wire.to_string().len() + 1;
            let rated = bytes(&[Allocation { quantity: Quantity::MAX_RECORD, tags }]);
            assert!(wire <= rated && rated < wire * 3, "{rated} for {wire}");
        }
    }

    #[test]
    fn more_than_aws_takes_in_a_record_waits_under_its_tags() {
        let quantity = Quantity::MAX_RECORD.saturating_add(Quantity::from_units(5));
        let tagged =
            [Allocation { quantity: Quantity::MAX_RECORD, ..team("a", "0") }, team("b", "5")];
        let found = apportion(quantity, &tagged);
        assert_eq!(sum(&found.allocations), Quantity::MAX_RECORD.millionths());
        assert_eq!(shown(&found.remainder), "a5");
    }
}
