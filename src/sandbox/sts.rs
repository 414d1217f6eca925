//! STS: roles that can be assumed, and their sessions' credentials.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{bad_request, refusal};
use super::locked;
use super::market::{ApiError, SELLER_ACCOUNT};
use crate::clock::Clock;

/// A role with its trust policy and its permissions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleGrant {
    /// The role's ARN.
    pub role_arn: String,
    /// The external id that its trust policy asks for; any will do without one.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The patterns for the ARN of whoever assumes it, as `aws:PrincipalArn` of its trust policy has it; any ARN will
    /// do without a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_arns: Option<Vec<String>>,
    /// The actions that it allows; all of them without a list.
    #[serde(default)]
    pub permissions: Option<Vec<String>>,
}

/// Roles and sessions. Sessions last by the machine's clock, as whoever holds one counts: an SDK renews it by its own
/// clock, and would never do so if a move of the sandbox's ended it.
#[derive(Clone)]
pub(super) struct Sts {
    machine: Clock,
    seed: u64,
    state: Arc<Mutex<State>>,
}

struct State {
    roles: HashMap<String, RoleGrant>,
    sessions: HashMap<String, Session>,
    random: fastrand::Rng,
}

struct Session {
    role: RoleGrant,
    name: String,
    expires_at: Timestamp,
}

const SESSION_SECONDS: i64 = 3_600;

impl Sts {
    pub(super) fn new(machine: Clock, seed: u64) -> Self {
        let state = State {
            roles: usual_roles(),
            sessions: HashMap::new(),
            random: fastrand::Rng::with_seed(seed),
        };
        Self { machine, seed, state: Arc::new(Mutex::new(state)) }
    }

    /// Removes every role but the one that is there from the beginning.
    pub(super) fn reset_roles(&self) {
        locked(&self.state).roles = usual_roles();
    }

    /// Removes every session, and gives out the same keys again.
    pub(super) fn reset_sessions(&self) {
        let mut state = locked(&self.state);
        state.sessions.clear();
        state.random = fastrand::Rng::with_seed(self.seed);
    }

    /// Returns every role, by its ARN.
    pub(super) fn roles(&self) -> Vec<RoleGrant> {
        let mut roles: Vec<RoleGrant> = locked(&self.state).roles.values().cloned().collect();
        roles.sort_by(|one, other| one.role_arn.cmp(&other.role_arn));
        roles
    }

    pub(super) fn add_role(&self, role: RoleGrant) {
        locked(&self.state).roles.insert(role.role_arn.clone(), role);
    }

    /// Returns the keys of every session that was given out.
    pub(super) fn session_keys(&self) -> Vec<String> {
        locked(&self.state).sessions.keys().cloned().collect()
    }

    /// Checks that a caller may perform an action. Keys that STS did not give out are the seller's own.
    pub(super) fn allow(&self, access_key: &str, action: &str) -> Result<(), ApiError> {
        let state = locked(&self.state);
        let Some(session) = state.sessions.get(access_key) else {
            return Ok(());
        };
        if session.expires_at <= self.machine.now() {
            let message = "The security token included in the request is expired";
            return Err(bad_request("ExpiredTokenException", message));
        }
        let allowed = session.role.permissions.as_ref().is_none_or(|actions| {
            action.starts_with("sts:") || actions.iter().any(|allowed| allowed == action)
        });
        if allowed {
            return Ok(());
        }
        let message = format!(
            "User: {} is not authorized to perform: {action}",
            assumed(&session.role.role_arn, &session.name)
        );
        Err(bad_request("AccessDeniedException", message))
    }

    pub(super) fn call(
        &self,
        access_key: &str,
        operation: &str,
        input: &Value,
    ) -> Result<Value, ApiError> {
        match operation {
            "AssumeRole" | "AssumeRoleWithWebIdentity" => self.assume(access_key, input),
            "GetCallerIdentity" => Ok(self.identity(access_key)),
            _ => Err(bad_request("InvalidAction", format!("STS has no {operation} here"))),
        }
    }

    fn assume(&self, access_key: &str, input: &Value) -> Result<Value, ApiError> {
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        let (arn, name) = (text("RoleArn"), text("RoleSessionName"));
        let seconds = match input["DurationSeconds"].as_str() {
            None => SESSION_SECONDS,
            Some(text) => text.parse().unwrap_or(0),
        };
        if !(900..=43_200).contains(&seconds) {
            return Err(bad_request("ValidationError", "DurationSeconds is from 900 to 43200"));
        }
        let mut state = locked(&self.state);
        let caller = state.principal(access_key);
        let trusted = state.roles.get(&arn).filter(|role| {
            role.external_id.as_ref().is_none_or(|id| input["ExternalId"].as_str() == Some(id))
                && role
                    .principal_arns
                    .as_ref()
                    .is_none_or(|patterns| patterns.iter().any(|it| arn_like(it, &caller)))
        });
        let Some(role) = trusted.cloned() else {
            let message = format!(
                "User: {caller} is not authorized to perform: sts:AssumeRole on resource: {arn}"
            );
            return Err(refusal(403, "AccessDenied", message));
        };
        let tail: String =
            std::iter::repeat_with(|| state.random.alphanumeric().to_ascii_uppercase())
                .take(16)
                .collect();
        let access_key = format!("ASIA{tail}");
        let expires_at = self.machine.now() + SignedDuration::from_secs(seconds);
        let answer = json!({
            "Credentials": {
                "AccessKeyId": access_key,
                "SecretAccessKey": format!("secret-of-{access_key}"),
                "SessionToken": format!("token-of-{access_key}"),
                "Expiration": expires_at.to_string(),
            },
            "AssumedRoleUser": {
                "Arn": assumed(&arn, &name),
                "AssumedRoleId": format!("AROASANDBOX:{name}"),
            },
        });
        state.sessions.insert(access_key, Session { role, name, expires_at });
        Ok(answer)
    }

    fn identity(&self, access_key: &str) -> Value {
        let state = locked(&self.state);
        match state.sessions.get(access_key) {
            Some(session) => json!({
                "Account": account(&session.role.role_arn),
                "Arn": assumed(&session.role.role_arn, &session.name),
                "UserId": format!("AROASANDBOX:{}", session.name),
            }),
            None => json!({
                "Account": SELLER_ACCOUNT,
                "Arn": state.principal(access_key),
                "UserId": SELLER_ACCOUNT,
            }),
        }
    }
}

impl State {
    /// Returns the caller's principal, as policies name it: the role itself where it is a session.
    fn principal(&self, access_key: &str) -> String {
        let session = self.sessions.get(access_key);
        session.map_or_else(
            || format!("arn:aws:iam::{SELLER_ACCOUNT}:root"),
            |session| session.role.role_arn.clone(),
        )
    }
}

/// Reports whether an ARN matches a pattern, as `ArnLike` does: part by part, `*` for any number of characters and
/// `?` for one.
fn arn_like(pattern: &str, arn: &str) -> bool {
    let (patterns, parts): (Vec<_>, Vec<_>) =
        (pattern.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
    patterns.len() == parts.len()
        && patterns.iter().zip(parts).all(|(it, part)| like(it.as_bytes(), part.as_bytes()))
}

fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| like(rest, &text[taken..])),
        ([b'?', rest @ ..], [_, left @ ..]) => like(rest, left),
        ([byte, rest @ ..], [first, left @ ..]) => byte == first && like(rest, left),
        _ => false,
    }
}

fn usual_roles() -> HashMap<String, RoleGrant> {
    let usual = RoleGrant {
        role_arn: format!("arn:aws:iam::{SELLER_ACCOUNT}:role/marketd"),
        ..RoleGrant::default()
    };
    HashMap::from([(usual.role_arn.clone(), usual)])
}

fn account(role_arn: &str) -> &str {
    role_arn.split(':').nth(4).unwrap_or(SELLER_ACCOUNT)
}

fn assumed(role_arn: &str, name: &str) -> String {
    let role = role_arn.rsplit('/').next().unwrap_or_default();
    format!("arn:aws:sts::{}:assumed-role/{role}/{name}", account(role_arn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_like_a_pattern_part_by_part() {
        let role = "arn:aws:iam::111122223333:role/team/marketd";
        let rows = [
            ("arn:aws:iam::111122223333:role/team/marketd", true),
            ("arn:aws:iam::111122223333:role/*/marketd", true),
            ("arn:*:iam::111122223333:*", true),
            ("arn:aws:iam::11112222333?:role/*", true),
            ("arn:aws:iam::111122223333:role/marketd", false),
            ("arn:aws:iam::111122223333:role/*/market", false),
            ("arn:aws:iam::999999999999:*", false),
            ("*", false),
        ];
        for (pattern, is_like) in rows {
            assert_eq!(arn_like(pattern, role), is_like, "{pattern}");
        }
    }

    #[test]
    fn a_session_ends_by_the_machine_s_clock() {
        let machine = Clock::manual(Timestamp::UNIX_EPOCH);
        let sts = Sts::new(machine.clone(), 1);
        let order = json!({
            "RoleArn": format!("arn:aws:iam::{SELLER_ACCOUNT}:role/marketd"),
            "RoleSessionName": "test",
            "DurationSeconds": "900",
        });
        let answer = sts.call("sandbox", "AssumeRole", &order).unwrap();
        let key = answer["Credentials"]["AccessKeyId"].as_str().unwrap();
        for (seconds, outcome) in [(899, None), (900, Some("ExpiredTokenException"))] {
            machine.set(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
            let refused = sts.allow(key, "sqs:ReceiveMessage").err().map(|error| error.code);
            assert_eq!(refused, outcome, "after {seconds} s");
        }
    }
}
