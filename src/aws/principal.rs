//! The principal that a trust policy names: the user or the role behind the answer of GetCallerIdentity.

use crate::domain::is_account;

/// An IAM user or role, as `aws:PrincipalArn` names whoever calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its account.
    pub account: String,
    /// The patterns that its ARN matches, and that of nobody else in the account.
    pub arns: Vec<String>,
}

impl Principal {
    /// Reads the ARN of a role, a user, or a role's session.
    ///
    /// A session's ARN leaves out the path of its role. A name is its role's own in the account whatever the path, so the
    /// pattern for any path finds that role only. None for whoever cannot assume a role: the account's root, and sessions
    /// of federated users.
    pub fn of_arn(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, service, "", account, named] = parts[..] else { return None };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
        if !is_account(account) || !partition.starts_with("aws") || !named.bytes().all(is_plain) {
            return None;
        }
        let names: Vec<&str> = named.split('/').collect();
        if names.iter().any(|name| name.is_empty()) {
            return None;
        }
        let arns = match (service, &names[..]) {
            ("iam", ["role" | "user", _, ..]) => vec![arn.to_owned()],
            ("sts", ["assumed-role", role, _session]) => {
                let of_path = |path| format!("arn:{partition}:iam::{account}:role/{path}{role}");
                vec![of_path(""), of_path("*/")]
            }
            _ => return None,
        };
        Some(Self { account: account.to_owned(), arns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_named_by_its_sessions_whatever_its_path() {
        let rows: [(&str, &[&str]); 10] = [
            (
                "arn:aws:sts::111122223333:assumed-role/marketd/i-0123456789abcdef0",
                &[
                    "arn:aws:iam::111122223333:role/marketd",
                    "arn:aws:iam::111122223333:role/*/marketd",
                ],
            ),
            (
                "arn:aws-cn:sts::111122223333:assumed-role/a.b@c/s",
                &[
                    "arn:aws-cn:iam::111122223333:role/a.b@c",
                    "arn:aws-cn:iam::111122223333:role/*/a.b@c",
                ],
            ),
            (
                "arn:aws:iam::111122223333:user/team/marketd",
                &["arn:aws:iam::111122223333:user/team/marketd"],
            ),
            (
                "arn:aws:iam::111122223333:role/team/marketd",
                &["arn:aws:iam::111122223333:role/team/marketd"],
            ),
            ("arn:aws:iam::111122223333:root", &[]),
            ("arn:aws:sts::111122223333:federated-user/bob", &[]),
            ("arn:aws:sts::111122223333:assumed-role/marketd", &[]),
            // Whoever named a pattern would trust others than they see.
            ("arn:aws:iam::111122223333:role/*", &[]),
            ("arn:aws:iam::1111:role/marketd", &[]),
            ("arn:aws:iam::111122223333:role/", &[]),
        ];
        for (arn, named) in rows {
            let principal = Principal::of_arn(arn);
            let arns = principal.as_ref().map_or(&[][..], |it| &it.arns);
            assert_eq!(arns, named, "{arn}");
            assert!(principal.is_none_or(|it| it.account == "111122223333"), "{arn}");
        }
    }
}
