//! The console's words for what the API says: it names fields as its forms label them, and pages instead of commands.
//!
//! A problem says by its kind and its members what went wrong, and its detail says it to those who call the API. What a
//! person would have to translate for the console is said here, in one place for all pages.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::times::with_readable_times;
use crate::domain::TermsRule;
use crate::http::Problem;

/// What the forms call the fields of the API. A test compares with the templates.
const LABELS: [(&str, &str); 14] = [
    ("account_id", "AWS account"),
    ("after", "After event number"),
    ("bill", "Billed to AWS"),
    ("customer_identifier", "CustomerIdentifier"),
    ("email", "Mail"),
    ("ends_at", "Ends on"),
    ("id", "Id"),
    ("limit", "Limit"),
    ("name", "Name"),
    ("note", "Why"),
    ("product_id", "Your id of the product"),
    ("reset", "Starts again at zero"),
    ("role_arn", "The role's ARN"),
    ("unit", "Unit"),
];

/// Returns what the forms call a field.
pub(super) fn label(field: &str) -> String {
    for (beginning, label) in [("plan:", "Plan of"), ("feature:", "Feature billed by")] {
        if let Some(key) = field.strip_prefix(beginning) {
            return format!("{label} {key}");
        }
    }
    let known = LABELS.iter().find(|(name, _)| *name == field);
    known.map_or_else(|| field.replace('_', " "), |(_, label)| (*label).to_owned())
}

/// Returns what went wrong, in the words of the console.
pub(super) fn said(problem: &Problem) -> String {
    of_kind(problem).unwrap_or_else(|| match (problem.field(), problem.predicate()) {
        (Some(field), Some(predicate)) => format!("“{}” {predicate}", label(field)),
        _ => problem.detail().to_owned(),
    })
}

/// Says those problems whose detail speaks of commands, of JSON or of what only programs send.
fn of_kind(problem: &Problem) -> Option<String> {
    let member = |name: &str| problem.member::<String>(name);
    Some(match problem.kind() {
        "account-unknown" => format!(
            "AWS does not say who marketd runs as. Say below in which AWS account it runs. AWS's answer: {}",
            member("reason")?
        ),
        "already-imported" => format!(
            "the listing is imported as product {}, and a product keeps its id",
            member("product_id")?
        ),
        "aws-id-taken" => {
            let (field, value) = (problem.field()?, member("value")?);
            format!("{} {value} is that of customer {} already", label(field), member("customer_id")?)
        }
        "bad-request" if problem.field() == Some("cursor") => {
            "the link leads to a part of the list that is not there any more: open the list from its beginning".into()
        }
        "cursor-unknown" => {
            let newest = member("newest_cursor")?;
            let oldest = member("oldest_cursor").unwrap_or_else(|| "0".into());
            format!("no event that is kept has this number: the oldest comes after {oldest}, and the newest is {newest}")
        }
        "feature-type-fixed" => {
            let id = member("feature_id")?;
            format!("feature {id} is there already, of another kind, and a feature keeps its kind: choose another id")
        }
        "foreign-form" => {
            "This page had expired: it was opened in another session, or before marketd was started anew. Nothing was changed. Look at what you see now, and send it again.".into()
        }
        "invalid-feature" if problem.field() == Some("unit") => {
            "a feature that is had or not had has no unit: there is nothing to count. Leave it empty, or choose another kind".into()
        }
        "invalid-entitlement" => of_terms(problem.member("rule")?).into(),
        "no-product" => "no product is imported yet: the policy names the topics of the products that are".into(),
        "no-queue" => {
            "no queue is set: the template makes one with its policy, and the setting `queue.url` names it".into()
        }
        "role-refused" if problem.member::<String>("said").is_some() => {
            let said: String = member("said")?;
            // AWS's own words stand by themselves.
            let detail = problem.detail().strip_suffix(&*said).unwrap_or(problem.detail());
            detail.trim_end_matches([':', ' ']).to_owned()
        }
        "plan-archived" if problem.member::<Vec<String>>("options").is_some() => {
            "the plan is archived: check “sell it again”, or choose who of those who have it gets the new version, and it stays archived".into()
        }
        _ => return None,
    })
}

/// Says which rule the terms of an entitlement break.
const fn of_terms(rule: TermsRule) -> &'static str {
    match rule {
        TermsRule::OnlyMeteredIsBilled => {
            "what is beyond the limit can be billed of a metered feature only: choose “all of it” or “none of it”"
        }
        TermsRule::OnlyMeteredIsReset => {
            "only a metered feature's usage starts again at zero: choose “never”"
        }
        TermsRule::BooleanTakesNone => {
            "a plan has this feature or not: leave the limit and what stands below it empty"
        }
        TermsRule::LimitAndUnlimited => "give a limit, or check that there is none, not both",
        TermsRule::OverageNeedsLimit => "what is beyond the limit is to be billed: give the limit",
        TermsRule::LimitMissing => "give a limit, or check that there is none",
    }
}

/// Returns the kind of a problem as a heading.
pub(super) fn title(problem: &Problem) -> String {
    match problem.kind() {
        "bad-request" => "This cannot be read".to_owned(),
        "forbidden" => "Your role may not do this".to_owned(),
        "foreign-form" => "This page has expired".to_owned(),
        "not-found" => "There is no such thing".to_owned(),
        "store-unavailable" => "The database cannot do this now".to_owned(),
        _ => {
            let words = problem.title();
            let mut letters = words.chars();
            let first = letters.next().map(|it| it.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    }
}

/// Returns what a problem names that can be looked at: what it is, and its page.
pub(super) fn named(problem: &Problem) -> Option<(String, String)> {
    let customer = || {
        let id: String = problem.member("customer_id")?;
        let place = format!("customers/{}", utf8_percent_encode(&id, NON_ALPHANUMERIC));
        Some((format!("customer {id}"), place))
    };
    problem.member("held_by").or_else(customer)
}

/// The pages that do what commands do: the beginning of each command, the page, and what it is called in a sentence.
const PAGES: [(&str, &str, &str); 16] = [
    ("customer import-mapping", "", ""),
    ("customer unlink", "customers", "“Part them from AWS” on the customer's page"),
    ("integration connect", "integration?steps=again", "the page Integration"),
    ("integration iam-policy", "integration?steps=again", "the page Integration"),
    ("integration show", "integration", "the page Integration"),
    ("integration template", "integration", "the page Integration"),
    ("integration trust-policy", "integration?steps=again", "the page Integration"),
    ("listing import", "listings", "the page Listings"),
    ("listing list", "listings", "the page Listings"),
    ("listing sync", "products", "“Compare with AWS now” on the product's page"),
    ("product confirm-endings", "products", "“It is right” on the product's page"),
    ("webhook deliveries", "events", "the page Events"),
    ("webhook replay", "events", "the page Events"),
    ("webhook resume", "events", "the page Events"),
    ("webhook show", "events", "the page Events"),
    ("webhook test", "events", "the button on the page Events"),
];

/// Returns the page that does what a command does, and what it is called; none if only the command does it.
fn page_of(command: &str) -> Option<(String, &'static str)> {
    let command = command.strip_prefix("marketd ")?;
    let (name, place, words) = PAGES.iter().find(|(name, ..)| command.starts_with(name))?;
    if place.is_empty() {
        return None;
    }
    // Whoever names a product or a customer means its page.
    let id = command[name.len()..].trim();
    let named = matches!(*place, "products" | "customers") && !id.is_empty() && id != "PRODUCT";
    let segment = || utf8_percent_encode(id, NON_ALPHANUMERIC);
    let place = if named { format!("{place}/{}", segment()) } else { (*place).to_owned() };
    Some((place, words))
}

/// Returns the word of a page in the navigation.
fn folder(page: &str) -> &str {
    page.split('?').next().unwrap_or(page)
}

/// Returns what a command is called on the page that does the same.
fn on_its_page(command: &str) -> &'static str {
    match command {
        it if it.contains("trust-policy") => "the trust policy of this page",
        it if it.contains("iam-policy") => "the permissions policy of this page",
        _ => "this page",
    }
}

/// Returns a text as HTML, with what stands between backticks as code, commands as the pages that do the same, and times as
/// pages show them.
pub(super) fn prose(text: impl AsRef<str>) -> String {
    html(text.as_ref(), Links::All)
}

/// Returns the same on a page, which is what it says of commands that it does itself.
pub(super) fn prose_at(here: &str, text: impl AsRef<str>) -> String {
    html(text.as_ref(), Links::At(here))
}

/// Returns the same for a text that stands in a link, and has none of its own.
pub(super) fn phrase(text: impl AsRef<str>) -> String {
    html(text.as_ref(), Links::None)
}

/// Which links a text has.
#[derive(Clone, Copy)]
enum Links<'a> {
    /// All.
    All,
    /// All but those to the page that it stands on.
    At(&'a str),
    /// None.
    None,
}

fn html(text: &str, links: Links<'_>) -> String {
    let text = with_readable_times(text);
    let mut html = String::new();
    for (place, part) in text.split('`').enumerate() {
        if place % 2 == 0 {
            escape(part, &mut html);
            continue;
        }
        match page_of(part) {
            Some((page, _)) if matches!(links, Links::At(here) if folder(&page) == here) => {
                escape(on_its_page(part), &mut html);
            }
            Some((page, words)) if !matches!(links, Links::None) => {
                html.push_str("<a href=\"");
                escape(&page, &mut html);
                html.push_str("\">");
                escape(words, &mut html);
                html.push_str("</a>");
            }
            Some((_, words)) => escape(words, &mut html),
            None => {
                html.push_str("<code>");
                escape(part, &mut html);
                html.push_str("</code>");
            }
        }
    }
    html
}

fn escape(text: &str, html: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&#34;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;

    fn files(folder: &Path, ending: &str, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, ending, found);
            } else if path.extension().is_some_and(|it| it == ending) {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    /// Reads the files of a folder of `src/` whose names end so.
    fn sources(folder: &str, ending: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder), ending, &mut found);
        found
    }

    #[test]
    fn what_stands_between_backticks_is_code_and_nothing_else_is_markup() {
        let rows = [
            ("run `market <x>` & wait", "run <code>market &lt;x&gt;</code> &amp; wait"),
            ("<script>\"'`", "&lt;script&gt;&#34;&#39;<code></code>"),
        ];
        for (text, html) in rows {
            assert_eq!(prose(text), html);
            assert_eq!(phrase(text), html);
        }
    }

    #[test]
    fn a_command_is_the_page_that_does_the_same() {
        let rows = [
            (
                "`marketd integration connect` takes it up again",
                "<a href=\"integration?steps=again\">the page Integration</a> takes it up again",
            ),
            (
                "`marketd product confirm-endings a&b`",
                "<a href=\"products/a%26b\">“It is right” on the product&#39;s page</a>",
            ),
            ("`marketd customer import-mapping`", "<code>marketd customer import-mapping</code>"),
        ];
        for (text, html) in rows {
            assert_eq!(prose(text), html);
        }
        assert_eq!(phrase("see `marketd listing list`"), "see the page Listings");
        assert_eq!(
            prose_at("integration", "`marketd integration trust-policy` shows it"),
            "the trust policy of this page shows it"
        );
        assert_eq!(prose_at("events", "see `marketd webhook show`"), "see this page");
    }

    #[test]
    fn every_command_that_a_text_names_is_in_the_table() {
        // What these say is read on a terminal, in a log or in the docs.
        let elsewhere =
            ["/cli/", "/settings/", "/daemon/", "/sandbox/", "/engine/", "page.rs", "wording.rs"];
        let mut missing = Vec::new();
        for (path, text) in sources("", "rs") {
            if elsewhere.iter().any(|it| path.contains(it)) {
                continue;
            }
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in lines {
                for named in line.split("`marketd ").skip(1) {
                    let command = named.split('`').next().unwrap_or_default();
                    if !PAGES.iter().any(|(name, ..)| command.starts_with(name)) {
                        missing.push(format!("{path}: {command}"));
                    }
                }
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn fields_are_called_as_the_forms_label_them() {
        let templates = sources("http/console", "html");
        for (field, label) in LABELS {
            let beginnings =
                [format!("\"{field}\", \"{label}"), format!("for=\"{field}\">{label}")];
            let labelled = templates
                .iter()
                .any(|(_, text)| beginnings.iter().any(|beginning| text.contains(beginning)));
            assert!(labelled, "no form has {field} as {label}");
        }
    }

    #[test]
    fn problems_are_said_without_commands_json_or_names_of_fields() {
        let conflict = |kind: &'static str| {
            Problem::new(StatusCode::CONFLICT, kind, "say `--flag` or {\"json\": true}")
        };
        let rows = [
            conflict("account-unknown").with("reason", json!("no credentials")),
            conflict("already-imported").with("product_id", json!("insight")),
            conflict("aws-id-taken")
                .with("field", json!("account_id"))
                .with("value", json!("123456789012"))
                .with("customer_id", json!("acme")),
            conflict("cursor-unknown").with("newest_cursor", json!("1200")),
            conflict("feature-type-fixed").with("feature_id", json!("sso")),
            conflict("foreign-form"),
            conflict("no-product"),
            conflict("no-queue"),
            Problem::new(
                StatusCode::CONFLICT,
                "role-refused",
                "no (`marketd integration trust-policy` shows it)",
            ),
            conflict("plan-archived").with("options", json!(["reopen"])),
            Problem::field_is("role_arn", "is an IAM role's ARN"),
            Problem::field_is("aws.account_id", "is an AWS account's 12 digits"),
            Problem::field_is("cursor", "is not one of next_cursor"),
        ];
        for problem in rows {
            let said = said(&problem);
            let text = prose_at("integration", said.replace("`queue.url`", ""));
            for sign in ["--", "{", "`", "_", "\"", "marketd integration"] {
                assert!(!text.contains(sign), "{}: {said}", problem.kind());
            }
        }
        let role = Problem::field_is("role_arn", "is an IAM role's ARN");
        assert_eq!(said(&role), "“The role's ARN” is an IAM role's ARN");
        assert_eq!(role.detail(), "role_arn is an IAM role's ARN", "the API has its own words");
    }
}
