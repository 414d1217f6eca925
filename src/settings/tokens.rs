//! `http.token` and `[[http.tokens]]`: the tokens of the API.

use secrecy::{ExposeSecret as _, SecretString};

use super::layers::Layers;
use super::value::SettingValue;
use crate::domain::api_token::{ApiToken, LOCAL, Role, TokenHash};

/// The table of named tokens.
const TABLE: &str = "http.tokens";
/// The name of the one token that `http.token` sets.
const SINGLE: &str = "token";
/// The most letters of a name.
const NAME_MAX: usize = 64;

/// The name of a token.
struct TokenName(String);

impl SettingValue for TokenName {
    const ALLOWED: &'static str =
        "a name of 1 to 64 letters, digits and the signs - _ . @, other than \"local\"";

    fn parse(text: &str) -> Option<Self> {
        let allowed = |sign: char| sign.is_ascii_alphanumeric() || "-_.@".contains(sign);
        let fits = (1..=NAME_MAX).contains(&text.len()) && text.chars().all(allowed);
        (fits && text != LOCAL).then(|| Self(text.to_owned()))
    }
}

impl SettingValue for Role {
    const ALLOWED: &'static str = "app, read, operator or admin";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl SettingValue for TokenHash {
    const ALLOWED: &'static str = "a hash as `marketd token new` prints it, sha256: and 64 digits";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

/// Reports whether any token is set, whatever it is.
pub(super) fn are_set(layers: &Layers) -> bool {
    layers.has("http.token") || layers.has("http.token_file") || !layers.tables(TABLE).is_empty()
}

/// Reads every token: the single one, which may do all, and the named ones. What this command does not read is left out.
pub(super) fn read(layers: &mut Layers, single: Option<&SecretString>) -> Vec<ApiToken> {
    let mut tokens: Vec<ApiToken> = single
        .map(|token| ApiToken {
            name: SINGLE.into(),
            role: Role::Admin,
            hash: TokenHash::of(token.expose_secret()),
        })
        .into_iter()
        .collect();
    if layers.has(TABLE) {
        layers.fault(TABLE, "is a list of tables: write [[http.tokens]] with name, role and token");
    }
    for table in layers.tables(TABLE) {
        let Some(token) = named(layers, &table) else { continue };
        let taken = |held: &&ApiToken| held.name == token.name || held.hash == token.hash;
        match tokens.iter().find(taken) {
            Some(held) if held.name == token.name => {
                layers.fault(
                    &format!("{table}.name"),
                    &format!("{:?} is the name of two", token.name),
                );
            }
            Some(held) => {
                let what = format!("{:?} and {:?} have the same token", held.name, token.name);
                layers.fault(&format!("{table}.name"), &what);
            }
            None => tokens.push(token),
        }
    }
    tokens
}

/// Reads one named token.
fn named(layers: &mut Layers, table: &str) -> Option<ApiToken> {
    let key = |part: &str| format!("{table}.{part}");
    let name: Option<TokenName> = layers.required(&key("name"));
    let role: Option<Role> = layers.required(&key("role"));
    let ways = ["token", "token_file", "token_hash"];
    let given: Vec<&str> = ways.into_iter().filter(|way| layers.has(&key(way))).collect();
    let inline: Option<SecretString> = layers.optional(&key("token"));
    let filed: Option<SecretString> = layers.secret_file(&key("token_file"));
    let hashed: Option<TokenHash> = layers.optional(&key("token_hash"));
    if given.len() != 1 {
        let what = "needs one of token, token_file and token_hash";
        layers.fault(&key(given.first().unwrap_or(&"name")), what);
        return None;
    }
    let secret = inline.or(filed);
    let hash = hashed.or_else(|| secret.map(|token| TokenHash::of(token.expose_secret())));
    Some(ApiToken { name: name?.0.into(), role: role?, hash: hash? })
}

#[cfg(test)]
mod tests {
    use crate::domain::api_token::find_token;
    use crate::settings::{Settings, SettingsError, load};

    const HASH: &str = "sha256:64a5e4d60dd2d3e2f1e5a2d1ff9d4bbb7bf0f0f9c1e36bb5f9ad4a9d3d0d8a11";

    fn with(settings: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let variable =
            |(key, value): &(&str, &str)| (format!("MARKETD__HTTP__{key}"), (*value).to_owned());
        load(None, settings.iter().map(variable)).map(|loaded| loaded.settings)
    }

    #[test]
    fn tokens_come_from_lists_in_files_and_from_numbered_variables() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("marketd.toml"), folder.path().join("secret"));
        std::fs::write(&secret, "in-a-file\n").unwrap();
        let text = format!(
            "[http]\ntoken = \"single\"\n[[http.tokens]]\nname = \"a\"\nrole = \"app\"\ntoken_file = {secret:?}\n\
             [[http.tokens]]\nname = \"b\"\nrole = \"read\"\ntoken = \"second\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let role = ("MARKETD__HTTP__TOKENS__1__ROLE".to_owned(), "operator".to_owned());
        let tokens = load(Some(&file), [role]).unwrap().settings.http.tokens;
        let of =
            |given: &str| find_token(&tokens, given).map(|it| format!("{} {}", it.name, it.role));
        assert_eq!(of("single").as_deref(), Some("token admin"));
        assert_eq!(of("in-a-file").as_deref(), Some("a app"));
        assert_eq!(of("second").as_deref(), Some("b operator"));
        let anywhere = [
            ("LISTEN", "0.0.0.0:80"),
            ("TOKENS__0__NAME", "a"),
            ("TOKENS__0__ROLE", "app"),
            ("TOKENS__0__TOKEN_HASH", HASH),
        ];
        assert_eq!(with(&anywhere).unwrap().http.tokens.len(), 1, "a named token guards as well");
    }

    #[test]
    fn a_wrong_token_is_named_by_its_key_and_shown_to_nobody() {
        let row = |key: &'static str, value: &'static str| (key, value);
        let first = [row("TOKENS__0__NAME", "a"), row("TOKENS__0__ROLE", "app")];
        let rows: [(&[(&str, &str)], &str); 9] = [
            (&[row("TOKENS__0__TOKEN", "")], "http.tokens.0.token"),
            (
                &[row("TOKENS__0__ROLE", "king"), row("TOKENS__0__TOKEN", "s3cret")],
                "app, read, operator or admin",
            ),
            (
                &[row("TOKENS__0__NAME", "local"), row("TOKENS__0__TOKEN", "s3cret")],
                "other than \"local\"",
            ),
            (&[], "needs one of token, token_file and token_hash"),
            (
                &[row("TOKENS__0__TOKEN", "s3cret"), row("TOKENS__0__TOKEN_HASH", HASH)],
                "needs one of",
            ),
            (&[row("TOKENS__0__TOKEN_HASH", "s3cret")], "64 digits"),
            (
                &[row("TOKENS__0__TOKEN", "s3cret"), row("TOKENS__0__ROLL", "app")],
                "did you mean http.tokens.0.role",
            ),
            (&[row("TOKEN", "s3cret"), row("TOKENS__0__TOKEN", "s3cret")], "have the same token"),
            (&[row("TOKENS", "s3cret")], "is a list of tables"),
        ];
        for (settings, word) in rows {
            let mut all = first.to_vec();
            all.retain(|(key, _)| !settings.iter().any(|(other, _)| other == key));
            all.extend(settings);
            let said = with(&all).unwrap_err().to_string();
            assert!(said.contains(word), "{settings:?}: {said}");
            assert!(!said.contains("s3cret"), "{settings:?}: {said}");
        }
    }
}
