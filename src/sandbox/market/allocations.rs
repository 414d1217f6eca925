//! Usage allocations (vendor-metered tagging): how a record's quantity splits by tags.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::Value;

use super::ApiError;
use super::quantity::read_quantity;

const ALLOCATIONS_MAX: usize = 2_500;
const TAGS_MAX: usize = 5;

/// A set of tags.
type Tags = BTreeMap<String, String>;

/// Quantities by tag set; comparable, so that a repeat is recognised whatever its order.
pub(super) type Allocations = BTreeMap<Tags, Decimal>;

fn invalid_allocations(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("InvalidUsageAllocationsException", message)
}

fn invalid_tag(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("InvalidTagException", message)
}

pub(super) fn read_allocations(
    record: &Value,
    quantity: Decimal,
    is_decimal: bool,
) -> Result<Allocations, ApiError> {
    let given = match record.get("UsageAllocations") {
        None | Some(Value::Null) => return Ok(Allocations::new()),
        Some(given) => given.as_array().ok_or_else(|| invalid_allocations("not a list"))?,
    };
    if given.is_empty() || given.len() > ALLOCATIONS_MAX {
        let message = format!("a record has 1 to {ALLOCATIONS_MAX} usage allocations");
        return Err(invalid_allocations(message));
    }
    let mut allocations = Allocations::new();
    for allocation in given {
        let decimal = "AllocatedUsageQuantityAsDecimal";
        let part = read_quantity(allocation, "AllocatedUsageQuantity", decimal)?
            .ok_or_else(|| invalid_allocations("an allocated quantity is missing"))?;
        if allocation.get(decimal).is_some_and(|it| !it.is_null()) != is_decimal {
            return Err(invalid_allocations("integers and decimals cannot be mixed in a record"));
        }
        if allocations.insert(read_tags(allocation)?, part).is_some() {
            return Err(invalid_allocations("two usage allocations have the same tags"));
        }
    }
    let sum: Decimal = allocations.values().copied().sum();
    if sum != quantity {
        let message = format!("the allocations sum to {sum}, the record says {quantity}");
        return Err(invalid_allocations(message));
    }
    Ok(allocations)
}

fn read_tags(allocation: &Value) -> Result<Tags, ApiError> {
    let given = match allocation.get("Tags") {
        None | Some(Value::Null) => return Ok(Tags::new()),
        Some(given) => given.as_array().ok_or_else(|| invalid_tag("Tags is not a list"))?,
    };
    if given.is_empty() || given.len() > TAGS_MAX {
        return Err(invalid_tag(format!("an allocation has 1 to {TAGS_MAX} tags")));
    }
    let mut tags = Tags::new();
    for tag in given {
        let key = tag_text(tag, "Key", 100)?;
        let value = tag_text(tag, "Value", 256)?;
        if tags.insert(key.clone(), value).is_some() {
            return Err(invalid_tag(format!("the tag {key} is there twice")));
        }
    }
    Ok(tags)
}

fn tag_text(tag: &Value, name: &str, most: usize) -> Result<String, ApiError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+ -=._:\\/@".contains(&byte);
    tag.get(name)
        .and_then(Value::as_str)
        .filter(|text| (1..=most).contains(&text.len()) && text.bytes().all(allowed))
        .map(str::to_owned)
        .ok_or_else(|| invalid_tag(format!("a tag's {name} is missing, too long or malformed")))
}
