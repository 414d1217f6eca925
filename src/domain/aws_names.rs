//! The forms of AWS's own names, as far as a name of another form can never be right.

/// Reports whether this is a region as AWS names them, as in us-gov-west-1.
pub fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let letters = |part: &&str| part.bytes().all(|it| it.is_ascii_lowercase()) && !part.is_empty();
    let [first, middle @ .., number] = &parts[..] else { return false };
    first.len() >= 2
        && letters(first)
        && !middle.is_empty()
        && middle.iter().all(letters)
        && !number.is_empty()
        && number.bytes().all(|it| it.is_ascii_digit())
}

/// Reports whether this is the ARN of an IAM role.
pub fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, role] = parts[..] else { return false };
    let is_role = role.strip_prefix("role/").is_some_and(|name| !name.is_empty());
    partition.starts_with("aws")
        && is_account(account)
        && is_role
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reports whether this is the ARN of an EventBridge rule, on the default bus or another.
pub fn is_rule_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "events", region, account, rule] = parts[..] else { return false };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(is_plain);
    partition.starts_with("aws")
        && is_region(region)
        && is_account(account)
        && rule.strip_prefix("rule/").is_some_and(|names| names.split('/').all(is_name))
}

/// Reports whether this is the id of an AWS account.
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// Reports whether a trust policy can ask for this external id, by the form that STS demands.
pub fn is_external_id(text: &str) -> bool {
    let takes = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@:/-_".contains(&byte);
    (2..=1_224).contains(&text.len()) && text.bytes().all(takes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_named_whole() {
        let rows = [
            ("arn:aws:events:us-east-1:111122223333:rule/marketd", true),
            ("arn:aws:events:us-east-1:111122223333:rule/bus/marketd", true),
            ("arn:aws:events:us-east-1:111122223333:rule/*", false),
            ("arn:aws:events:us-east-1:111122223333:rule/", false),
            ("arn:aws:events:us-east-1:*:rule/marketd", false),
            ("arn:aws:events:*:111122223333:rule/marketd", false),
            ("arn:aws:events:us-east-1:111122223333:event-bus/marketd", false),
            ("marketd", false),
        ];
        for (text, is_rule) in rows {
            assert_eq!(is_rule_arn(text), is_rule, "{text}");
        }
    }
}
