//! The words of errors.

use aws_smithy_types::error::ErrorMetadata;

/// The error of every call once the integration was removed.
pub(super) const REMOVED: &str =
    "the integration was removed; `marketd integration connect` takes it up again";

/// Returns an error's text, its causes included: the SDK's own words for where it was are left out.
pub(super) fn described(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = match error.downcast_ref::<ErrorMetadata>() {
            Some(answer) => {
                format!(
                    "{}: {}",
                    answer.code().unwrap_or("error"),
                    answer.message().unwrap_or("no message")
                )
            }
            None => error.to_string(),
        };
        let empty = ["dispatch failure", "other", "service error"].contains(&text.as_str())
            || text.starts_with("unhandled error");
        if !empty && said.last() != Some(&text) {
            said.push(text);
        }
        cause = error.source();
    }
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}
