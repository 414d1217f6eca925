//! An example for every command, shown at the end of its help.

use clap::Command;

/// The commands' names, and their examples.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "marketd run",
            "marketd --config /etc/marketd/marketd.toml run --reconcile-once --output json",
        ],
    ),
    ("demo", &["marketd demo", "marketd demo --exit"]),
    (
        "sandbox",
        &["marketd sandbox --with-daemon", "marketd sandbox --listen 127.0.0.1:0 --output json"],
    ),
    ("check-config", &["marketd check-config", "marketd --config marketd.toml check-config"]),
    (
        "doctor",
        &["marketd doctor", "marketd doctor --output json | jq '.checks[] | select(.ok | not)'"],
    ),
    ("backup", &["marketd backup /backups/marketd-2026-11-10.db"]),
    (
        "restore",
        &[
            "marketd restore /backups/marketd-2026-11-10.db",
            "marketd restore --replay 6h /backups/marketd-2026-11-10.db",
        ],
    ),
    ("healthcheck", &["marketd healthcheck"]),
    ("integration show", &["marketd integration show"]),
    (
        "integration trust-policy",
        &[
            "marketd integration trust-policy --principal-arn arn:aws:iam::111122223333:role/marketd-host",
        ],
    ),
    ("integration iam-policy", &["marketd integration iam-policy > policy.json"]),
    (
        "integration queue-policy",
        &[
            "marketd integration queue-policy --rule-arn arn:aws:events:us-east-1:111122223333:rule/marketd",
        ],
    ),
    ("integration template", &["marketd integration template --format terraform > marketd.tf"]),
    (
        "integration connect",
        &["marketd integration connect --role-arn arn:aws:iam::111122223333:role/marketd"],
    ),
    ("integration remove", &["marketd integration remove --yes"]),
    ("listing list", &["marketd listing list"]),
    ("listing show", &["marketd listing show prod-pdedyr5gsbojj"]),
    (
        "listing import",
        &[
            "marketd listing import prod-pdedyr5gsbojj --product-id insight --plan basic=starter --feature api_calls=calls",
        ],
    ),
    ("listing sync", &["marketd listing sync insight"]),
    ("product list", &["marketd product list"]),
    ("product show", &["marketd product show insight"]),
    (
        "product license",
        &[
            "marketd product license meter --dry-run",
            "marketd product license meter --from 2026-12-01T00:00:00Z",
        ],
    ),
    ("product remove", &["marketd product remove trial"]),
    ("product confirm-endings", &["marketd product confirm-endings insight"]),
    ("plan list", &["marketd plan list --status draft"]),
    ("plan show", &["marketd plan show starter"]),
    ("plan versions", &["marketd plan versions starter", "marketd plan versions starter 1"]),
    ("plan create", &["marketd plan create solo --name Solo"]),
    ("plan publish", &["marketd plan publish starter", "marketd plan publish starter --to new"]),
    ("plan preview", &["marketd plan preview starter --to all"]),
    ("plan discard", &["marketd plan discard starter"]),
    ("plan archive", &["marketd plan archive starter"]),
    ("plan remove", &["marketd plan remove starter"]),
    ("plan unentitle", &["marketd plan unentitle starter sso"]),
    (
        "plan entitle",
        &[
            "marketd plan entitle starter sso",
            "marketd plan entitle starter calls --limit 1000 --reset month --bill overage",
            "marketd plan entitle team seats --limit 1 --per-unit",
        ],
    ),
    ("feature list", &["marketd feature list"]),
    ("feature show", &["marketd feature show calls"]),
    (
        "feature set",
        &[
            "marketd feature set sso --name 'Single sign-on' --type boolean",
            "marketd feature set calls --name 'API calls' --type metered --dimension insight=api_calls",
        ],
    ),
    (
        "apply",
        &["marketd apply -f catalogue.toml --dry-run", "marketd apply -f catalogue.toml --to new"],
    ),
    ("export", &["marketd export > catalogue.toml"]),
    (
        "customer list",
        &[
            "marketd customer list --search acme",
            "marketd customer list --claimed false --limit 20",
        ],
    ),
    ("customer show", &["marketd customer show acme"]),
    (
        "customer provision",
        &["marketd customer provision acme --name Acme --aws-account-id 123456789012"],
    ),
    ("customer unlink", &["marketd customer unlink acme"]),
    ("customer erase", &["marketd customer erase acme"]),
    ("customer subscriptions", &["marketd customer subscriptions acme"]),
    ("customer import-mapping", &["marketd customer import-mapping mapping.csv --dry-run"]),
    (
        "customer access",
        &["marketd customer access acme", "marketd customer access acme calls --requested 5"],
    ),
    (
        "subscription list",
        &[
            "marketd subscription list --customer acme",
            "marketd subscription list --status active --ending-within 30d",
        ],
    ),
    ("subscription show", &["marketd subscription show acme-1"]),
    (
        "subscription set",
        &["marketd subscription set acme-1 --customer acme --plan solo --quantity 5"],
    ),
    (
        "subscription cancel",
        &[
            "marketd subscription cancel acme-1",
            "marketd subscription cancel acme-1 --at 2026-12-31T00:00:00Z",
        ],
    ),
    (
        "usage report",
        &["marketd usage report --customer acme --feature calls --quantity 12 --id req-1"],
    ),
    (
        "usage consume",
        &["marketd usage consume --customer acme --feature calls --quantity 1 --id req-1"],
    ),
    ("usage import", &["marketd usage import november.csv"]),
    (
        "usage list",
        &["marketd usage list --customer acme --since 2026-11-01T00:00:00Z --order oldest"],
    ),
    ("usage show", &["marketd usage show req-1"]),
    (
        "metering list",
        &[
            "marketd metering list --state parked",
            "marketd metering list --product insight --limit 20",
        ],
    ),
    ("metering show", &["marketd metering show 17"]),
    (
        "metering resolve",
        &[
            "marketd metering resolve 17 --action retry --note 'the dimension is back'",
            "marketd metering resolve --all --reason invalid_usage_dimension --action retry --dry-run",
            "marketd metering resolve --all --reason invalid_usage_dimension --action retry --note 'the dimension is back'",
        ],
    ),
    ("metering due", &["marketd metering due"]),
    ("metering balance", &["marketd metering balance"]),
    (
        "metering report",
        &[
            "marketd metering report --month 2026-11",
            "marketd metering report --month 2026-11 --csv > november.csv",
        ],
    ),
    (
        "metering export",
        &["marketd metering export ledger.csv --from 2026-11-01 --before 2026-12-01"],
    ),
    ("notification list", &["marketd notification list --state quarantined"]),
    ("notification show", &["marketd notification show 9c6b2ab0-c6d1-4e05-8888-149252bd7d1b"]),
    (
        "notification discard",
        &[
            "marketd notification discard 9c6b2ab0-c6d1-4e05-8888-149252bd7d1b --note \"a test of ours\"",
        ],
    ),
    ("notification replay", &["marketd notification replay 9c6b2ab0-c6d1-4e05-8888-149252bd7d1b"]),
    (
        "event list",
        &[
            "marketd event list --after 1200 --wait 30s --output json",
            "marketd event list --type 'subscription.*' --customer acme",
        ],
    ),
    ("webhook show", &["marketd webhook show"]),
    ("webhook deliveries", &["marketd webhook deliveries --state failing"]),
    ("webhook test", &["marketd webhook test"]),
    ("webhook pause", &["marketd webhook pause"]),
    ("webhook resume", &["marketd webhook resume"]),
    ("webhook replay", &["marketd webhook replay --since 2026-11-01T06:00:00Z"]),
    ("webhook secret", &["marketd webhook secret > /etc/marketd/webhook-secret"]),
    ("token new", &["marketd token new --name app --role app"]),
    ("activity list", &["marketd activity list --actor app --since yesterday"]),
    (
        "move",
        &[
            "marketd move --to postgres://marketd@db.example.com/marketd --dry-run",
            "marketd move --to /var/lib/marketd/marketd.db",
        ],
    ),
    ("worker list", &["marketd worker list"]),
    ("completions", &["marketd completions bash > /etc/bash_completion.d/marketd"]),
    ("man", &["marketd man /usr/local/share/man/man1"]),
    ("status", &["marketd status", "marketd status --output json | jq '.problems[].kind'"]),
];

/// Adds to each command's help its examples, and to a group's the first of each of its commands.
pub(super) fn with_examples(root: Command) -> Command {
    root.mut_subcommands(|command| added(command, ""))
}

fn added(command: Command, group: &str) -> Command {
    let path = format!("{group} {}", command.get_name());
    let path = path.trim().to_owned();
    let of_group = format!("{path} ");
    let found = EXAMPLES.iter().find(|(name, _)| *name == path);
    let lines: Vec<&str> = if let Some((_, lines)) = found {
        lines.to_vec()
    } else {
        let within = EXAMPLES.iter().filter(|(name, _)| name.starts_with(&of_group));
        within.filter_map(|(_, lines)| lines.first().copied()).collect()
    };
    if lines.is_empty() {
        return command;
    }
    let heading = if lines.len() == 1 { "Example" } else { "Examples" };
    let help = format!("{heading}:\n  {}", lines.join("\n  "));
    command.after_help(help).mut_subcommands(|command| added(command, &path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    /// Collects the paths of the commands that do something.
    fn leaves(command: &Command, path: &str, found: &mut BTreeSet<String>) {
        let below = command.get_subcommands().filter(|it| it.get_name() != "help");
        let mut is_group = false;
        for command in below {
            is_group = true;
            leaves(command, format!("{path} {}", command.get_name()).trim(), found);
        }
        if !is_group {
            found.insert(path.to_owned());
        }
    }

    /// Returns the words of an example's first command; what a shell does with its output is not ours.
    fn words(example: &str) -> Vec<String> {
        let words = shlex::split(example).unwrap();
        words.into_iter().take_while(|word| !["|", ">"].contains(&word.as_str())).collect()
    }

    #[test]
    fn every_command_has_an_example_in_its_help_that_it_takes() {
        let root = with_examples(Arguments::command());
        let mut commands = BTreeSet::new();
        leaves(&root, "", &mut commands);
        for path in &commands {
            let command = path.split(' ').fold(&root, |it, name| it.find_subcommand(name).unwrap());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> =
                help.lines().filter_map(|line| line.strip_prefix("  marketd ")).collect();
            assert!(!examples.is_empty(), "`marketd {path}` has no example in cli/examples.rs");
            for example in examples {
                let mut taken = &root
                    .clone()
                    .try_get_matches_from(words(&format!("marketd {example}")))
                    .unwrap_or_else(|error| panic!("marketd {example}: {error}"));
                let mut names = Vec::new();
                while let Some((name, below)) = taken.subcommand() {
                    names.push(name);
                    taken = below;
                }
                assert_eq!(names.join(" "), *path, "marketd {example}");
            }
        }
        let known: BTreeSet<String> = EXAMPLES.iter().map(|(path, _)| (*path).to_owned()).collect();
        if cfg!(feature = "sandbox") {
            assert_eq!(known, commands, "examples of commands that there are");
        }
    }
}
