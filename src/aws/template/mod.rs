//! Everything that a seller's account needs, as one template to deploy.
//!
//! The templates are files beside this one, for people to read; what varies stands in them as `{{name}}`.

use super::policies::{
    DESCRIBE_ENTITY, GET_AGREEMENT_ENTITLEMENTS, MARKETPLACE_ACTIONS, QUEUE_ACTIONS,
    SEARCH_AGREEMENTS, Topics, TrustedBy,
};

/// The tool that deploys it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// AWS CloudFormation, in YAML.
    CloudFormation,
    /// Terraform, in HCL.
    Terraform,
}

/// The inputs of a template.
#[derive(Clone, Debug)]
pub struct Template {
    /// The principals that may assume the role.
    pub trusted: TrustedBy,
    /// The products whose topics are subscribed to.
    pub product_codes: Vec<String>,
}

impl Format {
    /// Reads the format that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "cloudformation" => Some(Self::CloudFormation),
            "terraform" => Some(Self::Terraform),
            _ => None,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::CloudFormation => include_str!("cloudformation.yaml"),
            Self::Terraform => include_str!("terraform.tf"),
        }
    }
}

impl Template {
    /// Renders the template's text.
    pub fn render(&self, format: Format) -> String {
        let topics: Vec<(String, String)> = self
            .product_codes
            .iter()
            .flat_map(|code| {
                let Topics { subscription, entitlement } = Topics::of(code);
                [
                    (format!("{code}-subscription"), subscription),
                    (format!("{code}-entitlement"), entitlement),
                ]
            })
            .collect();
        let listed = |indent: &str, items: &[&str]| {
            let line = |item: &&str| match format {
                Format::CloudFormation => format!("{indent}- {item}\n"),
                Format::Terraform => format!("{indent}\"{item}\",\n"),
            };
            items.iter().map(line).collect::<String>().trim_end().to_owned()
        };
        let (deep, sources) = match format {
            Format::CloudFormation => ("                  ", "                "),
            Format::Terraform => ("      ", "        "),
        };
        let arns: Vec<&str> = topics.iter().map(|(_, arn)| arn.as_str()).collect();
        let text = format
            .text()
            .replace("{{account}}", &self.trusted.account)
            .replace("{{external_id}}", &self.trusted.external_id)
            .replace("{{principals}}", &self.principals(format))
            .replace("{{describe_entity}}", DESCRIBE_ENTITY)
            .replace("{{search_agreements}}", SEARCH_AGREEMENTS)
            .replace("{{get_agreement_entitlements}}", GET_AGREEMENT_ENTITLEMENTS)
            .replace("{{marketplace_actions}}", &listed(deep, &MARKETPLACE_ACTIONS))
            .replace("{{queue_actions}}", &listed(deep, &QUEUE_ACTIONS));
        let text = part(&text, "topics", !topics.is_empty());
        text.replace("{{topic_arns}}", &listed(sources, &arns))
            .replace("{{subscriptions}}\n", &subscriptions(format, &topics))
    }
}

impl Template {
    /// Returns the default of the variable that lists the trusted principals: what any user or role of the account matches,
    /// where nobody is known.
    fn principals(&self, format: Format) -> String {
        let TrustedBy { account, principals, .. } = &self.trusted;
        let any = [format!("arn:*:iam::{account}:*")];
        let principals = if principals.is_empty() { &any[..] } else { principals };
        match format {
            Format::CloudFormation => principals.join(","),
            Format::Terraform => format!("[\"{}\"]", principals.join("\", \"")),
        }
    }
}

/// Keeps or leaves out what stands between `{{#name}}` and `{{/name}}`, each a line of its own.
fn part(text: &str, name: &str, kept: bool) -> String {
    let mut inside = false;
    let (open, close) = (format!("{{{{#{name}}}}}"), format!("{{{{/{name}}}}}"));
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        match line.trim() {
            mark if mark == open => inside = true,
            mark if mark == close => inside = false,
            _ if inside && !kept => {}
            _ => {
                lines.push_str(line);
                lines.push('\n');
            }
        }
    }
    lines
}

fn subscriptions(format: Format, topics: &[(String, String)]) -> String {
    let one = |(name, arn): &(String, String)| match format {
        Format::CloudFormation => {
            let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
            format!(
                "
  Topic{name}:
    Type: AWS::SNS::Subscription
    DependsOn: QueuePolicy
    Properties:
      TopicArn: {arn}
      Protocol: sqs
      Endpoint: !GetAtt Queue.Arn
      Region: us-east-1
"
            )
        }
        Format::Terraform => format!(
            "
resource \"aws_sns_topic_subscription\" \"{}\" {{
  topic_arn  = \"{arn}\"
  protocol   = \"sqs\"
  endpoint   = aws_sqs_queue.marketd.arn
  depends_on = [aws_sqs_queue_policy.marketd]
}}
",
            format!("topic_{name}").replace('-', "_")
        ),
    };
    topics.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::Principal;

    const ACCOUNT: &str = "111122223333";

    fn template(product_codes: &[&str], principal: Option<&str>) -> Template {
        let trusted = match principal.and_then(Principal::of_arn) {
            Some(principal) => TrustedBy::principal(principal, "secret".into()),
            None => TrustedBy::account(ACCOUNT.into(), "secret".into()),
        };
        let product_codes = product_codes.iter().map(|&code| code.to_owned()).collect();
        Template { trusted, product_codes }
    }

    #[test]
    fn every_permission_and_topic_is_in_it_and_no_mark_is_left() {
        let of_agreements = [DESCRIBE_ENTITY, SEARCH_AGREEMENTS, GET_AGREEMENT_ENTITLEMENTS];
        for format in [Format::CloudFormation, Format::Terraform] {
            for codes in [&["abc", "def"][..], &[]] {
                let text = template(codes, None).render(format);
                assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
                for action in MARKETPLACE_ACTIONS.iter().chain(&of_agreements).chain(&QUEUE_ACTIONS)
                {
                    assert_eq!(text.matches(action).count(), 1, "{action} in {text}");
                }
                assert_eq!(text.matches("Proposer").count(), 1, "a search is of the seller's own");
                assert!(text.contains(ACCOUNT) && text.contains("secret"));
                assert!(text.contains("aws.agreement-marketplace"));
                assert_eq!(text.contains("sns.amazonaws.com"), !codes.is_empty());
                for code in codes {
                    let topics = Topics::of(code);
                    for topic in [topics.subscription, topics.entitlement] {
                        assert_eq!(text.matches(&topic).count(), 2, "{topic} may write, and does");
                    }
                }
            }
        }
    }

    #[test]
    fn the_role_trusts_whoever_is_known_and_any_of_the_account_else() {
        let session = "arn:aws:sts::111122223333:assumed-role/marketd/s";
        let (of_role, of_path) =
            ("arn:aws:iam::111122223333:role/marketd", "arn:aws:iam::111122223333:role/*/marketd");
        let any = "arn:*:iam::111122223333:*";
        let rows = [
            (Format::CloudFormation, Some(session), format!("Default: \"{of_role},{of_path}\"")),
            (Format::CloudFormation, None, format!("Default: \"{any}\"")),
            (Format::Terraform, Some(session), format!("= [\"{of_role}\", \"{of_path}\"]")),
            (Format::Terraform, None, format!("= [\"{any}\"]")),
        ];
        for (format, principal, line) in rows {
            let text = template(&[], principal).render(format);
            assert_eq!(text.matches(&line).count(), 1, "{line} in {text}");
            assert_eq!(text.matches("aws:PrincipalArn").count(), 1, "{text}");
        }
    }
}
