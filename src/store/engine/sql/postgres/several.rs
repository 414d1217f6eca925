//! One statement for several: what a statement does with one row of parameters, done with many at once. The server then
//! begins, answers and sends once, which costs it more than the work itself.

/// Returns the statement that does for rows of parameters what `text` does for one; none if it cannot be said so. Its own
/// parameters are one array for each of those, and one that reads has the number of its row, from 1 on, before its own
/// columns. One that updates rows is said so for rows of which no two are the same.
pub(super) fn for_several(text: &str, types: &[&str]) -> Option<String> {
    let array = |(place, kind)| format!("CAST(${} AS {kind}[])", place + 1);
    let arrays: Vec<String> = types.iter().enumerate().map(array).collect();
    let names: Vec<String> = (1..=types.len()).map(|place| format!("p{place}")).collect();
    let (arrays, names) = (arrays.join(", "), names.join(", "));
    let given = format!("unnest({arrays}) WITH ORDINALITY AS several ({names}, n)");
    let mut words = text.split_whitespace();
    match words.next()? {
        _ if types.is_empty() => None,
        "SELECT" => {
            let body = of_row(text);
            // The offset keeps the server from taking it for a join, and the order of what each row finds.
            let found = format!("LATERAL ({body} OFFSET 0) AS found");
            Some(format!("SELECT several.n, found.* FROM {given} CROSS JOIN {found}"))
        }
        "INSERT" => {
            let (into, values) = text.split_once("VALUES (")?;
            let end = end_of_group(values)?;
            let (values, rest) = (&values[..end], &values[end + 1..]);
            // What looks at rows that are there would not see those beside it.
            let is_simple =
                !values.contains("SELECT") && !rest.contains('$') && !rest.contains("RETURNING");
            is_simple.then(|| format!("{into}SELECT {} FROM {given}{rest}", of_row(values)))
        }
        "UPDATE" => {
            // The rows are found one by one: sessions plan so (`wire.rs`).
            let (set, condition) = text.split_once("WHERE ")?;
            let is_simple =
                !["SELECT", "FROM ", "RETURNING"].iter().any(|word| text.contains(word));
            is_simple.then(|| format!("{}FROM {given} WHERE {}", of_row(set), of_row(condition)))
        }
        _ => None,
    }
}

/// Returns a part of a statement with its parameters as columns of the row.
fn of_row(text: &str) -> String {
    let quoted = |(number, part): (usize, &str)| {
        // Every second part stands between quotation marks.
        if number % 2 == 1 { part.to_owned() } else { part.replace('$', "several.p") }
    };
    text.split('\'').enumerate().map(quoted).collect::<Vec<_>>().join("'")
}

/// Returns the place of the bracket that ends a group, whose beginning stands before the text.
fn end_of_group(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    text.find(|it: char| {
        match it {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        open == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_said_for_several_rows_or_not_at_all() {
        let rows = [
            (
                "SELECT a, 'it costs $1' FROM t WHERE b = $1 AND c = $2",
                Some(
                    "SELECT several.n, found.* FROM unnest(CAST($1 AS text[]), CAST($2 AS int8[])) WITH ORDINALITY AS several \
                     (p1, p2, n) CROSS JOIN LATERAL (SELECT a, 'it costs $1' FROM t WHERE b = several.p1 AND c = several.p2 \
                     OFFSET 0) AS found",
                ),
            ),
            (
                "INSERT INTO t (a, b) VALUES (upper($1), $2) ON CONFLICT DO NOTHING",
                Some(
                    "INSERT INTO t (a, b) SELECT upper(several.p1), several.p2 FROM unnest(CAST($1 AS text[]), \
                     CAST($2 AS int8[])) WITH ORDINALITY AS several (p1, p2, n) ON CONFLICT DO NOTHING",
                ),
            ),
            ("INSERT INTO t (a) VALUES ($1) RETURNING id", None),
            ("INSERT INTO t (a) VALUES ((SELECT max(a) + $1 FROM t))", None),
            ("INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET b = $2", None),
            (
                "UPDATE t SET a = a + $2 WHERE b = $1",
                Some(
                    "UPDATE t SET a = a + several.p2 FROM unnest(CAST($1 AS text[]), CAST($2 AS int8[])) WITH ORDINALITY \
                     AS several (p1, p2, n) WHERE b = several.p1",
                ),
            ),
            ("UPDATE t SET a = (SELECT max(a) FROM t) WHERE b = $1", None),
            ("UPDATE t SET a = $1", None),
            ("UPDATE t SET a = $2 WHERE b = $1 RETURNING a", None),
            ("DELETE FROM t WHERE a = $1", None),
        ];
        for (text, expected) in rows {
            assert_eq!(for_several(text, &["text", "int8"]).as_deref(), expected, "{text}");
        }
        assert_eq!(for_several("SELECT a FROM t", &[]), None);
    }
}
