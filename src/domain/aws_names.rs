//! The forms of AWS's own names, as far as a name of another form can never be right.

/// Whether this is a region as AWS names them, as in us-gov-west-1.
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

/// Whether this is the ARN of an IAM role.
pub fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, role] = parts[..] else { return false };
    let is_account = account.len() == 12 && account.bytes().all(|digit| digit.is_ascii_digit());
    let is_role = role.strip_prefix("role/").is_some_and(|name| !name.is_empty());
    partition.starts_with("aws")
        && is_account
        && is_role
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a trust policy can ask for this external id, by the form that STS demands.
pub fn is_external_id(text: &str) -> bool {
    let takes = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@:/-_".contains(&byte);
    (2..=1_224).contains(&text.len()) && text.bytes().all(takes)
}
