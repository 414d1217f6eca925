//! `marketd token` and `marketd activity`: who may use the API, and who did.

use anyhow::Context as _;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::client::Daemon;
use super::output::{Column, Output, print_json, say};
use super::pages::{OverTime, Part, print_list};
use crate::domain::api_token::{Role, TokenHash};

const ACTIVITY: &[Column] = &[
    Column::time("AT", "at"),
    Column::id("ACTOR", "actor"),
    Column::id("DOOR", "door"),
    Column::id("OPERATION", "operation"),
    Column::text("PATH", "path"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Makes a token, and prints it once with what belongs into the settings.
    ///
    /// Nothing is changed: put the printed lines into the settings file, and have the daemon read them with
    /// `systemctl reload marketd` or SIGHUP. The settings keep the hash alone, from which nobody gets the token.
    New {
        /// Who bears it: the activity log tells who did what by this name.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What it lets its bearer do: `app` what an application needs, `read` look at all, `operator` all but the
        /// connection to AWS, `admin` all.
        #[arg(long, value_enum)]
        role: RoleArgument,
    },
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleArgument {
    App,
    Read,
    Operator,
    Admin,
}

impl From<RoleArgument> for Role {
    fn from(argument: RoleArgument) -> Self {
        match argument {
            RoleArgument::App => Self::App,
            RoleArgument::Read => Self::Read,
            RoleArgument::Operator => Self::Operator,
            RoleArgument::Admin => Self::Admin,
        }
    }
}

impl Token {
    pub(super) fn execute(self, output: Output) -> anyhow::Result<()> {
        let Self::New { name, role } = self;
        let role = Role::from(role);
        let token = random_token()?;
        let hash = TokenHash::of(&token).to_string();
        if output == Output::Json {
            return print_json(
                &json!({"name": name, "role": role, "token": token, "token_hash": hash}),
            );
        }
        let name = json!(name);
        say(&format!(
            "The token, which is not shown again; its bearer sets MARKETD_TOKEN to it:\n\n    {token}\n\n\
             For the settings file:\n\n    [[http.tokens]]\n    name = {name}\n    role = \"{role}\"\n    token_hash = \"{hash}\"\n"
        ))
    }
}

/// Makes a token of 256 random bits. What it begins with is for people, and for programs that look for leaked secrets.
fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(format!("marketd_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[derive(Debug, Subcommand)]
pub(super) enum Activity {
    /// Lists who changed what.
    List {
        /// Only what was done with the token of this name.
        #[arg(long, value_name = "NAME")]
        actor: Option<String>,
        #[command(flatten)]
        time: OverTime,
        #[command(flatten)]
        part: Part,
    },
}

impl Activity {
    pub(super) async fn execute(self, output: Output) -> anyhow::Result<()> {
        let daemon = Daemon::from_environment(output)?;
        let Self::List { actor, time, part } = self;
        let query = time.with([("actor", actor)]);
        print_list(&daemon, output, "/v1/activity", &query, &part, ACTIVITY).await
    }
}
