//! The balance of all reported units, as a person reads it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::output::{Column, Table, amount, say, shown};

const UNITS: [Column; 6] = [
    Column::id("PRODUCT", "product"),
    Column::sum("REPORTED", "reported"),
    Column::sum("BILLED", "accepted"),
    Column::sum("PENDING", "pending"),
    Column::sum("PARKED", "parked"),
    Column::sum("WRITTEN OFF", "written_off"),
];

/// Prints a balance: where the units of each product are, beside what AWS itself has billed if that is known.
pub(super) fn print_balance(
    balance: &Value,
    aws: Option<&BTreeMap<String, Decimal>>,
) -> anyhow::Result<()> {
    let products = balance["products"].as_object();
    let rows = products.into_iter().flatten().map(|(product, units)| {
        let mut row = units.clone();
        row["product"] = json!(product);
        if let Some(aws) = aws {
            row["aws"] = json!(aws.get(product).copied().unwrap_or_default().to_string());
        }
        row
    });
    let rows: Vec<Value> = rows.collect();
    if rows.is_empty() {
        return say("no usage has been reported yet");
    }
    let mut columns = UNITS.to_vec();
    if aws.is_some() {
        columns.push(Column::sum("AWS'S OWN LEDGER", "aws"));
    }
    let mut table = Table::new(&columns);
    table.rows(&rows)?;
    table.end()?;
    say("")?;
    for line in sentences(balance) {
        say(&line)?;
    }
    Ok(())
}

/// Tells what the table does not: the sum, and what is beside it.
fn sentences(balance: &Value) -> Vec<String> {
    let units = |key: &str| amount(&balance[key]);
    let mut lines = vec![format!(
        "{} units reported = {} billed + {} pending + {} parked + {} written off",
        units("reported"),
        units("accepted"),
        units("pending"),
        units("parked"),
        units("written_off"),
    )];
    if balance["included"] != "0" {
        lines.push(format!("plans cover {} more: used, and not to be billed", units("included")));
    }
    if balance["uncertain"] != "0" {
        lines.push(format!(
            "AWS may have billed {} of those parked or written off, since its answer was lost",
            units("uncertain")
        ));
    }
    for stretch in balance["unknown_stretches"].as_array().into_iter().flatten() {
        lines.push(format!(
            "AWS may know more than this of the hours from {} to {}",
            shown(&stretch["from"]),
            shown(&stretch["until"])
        ));
    }
    lines
}
