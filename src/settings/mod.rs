//! Settings: defaults, then a file, then the environment, into one validated struct.
//!
//! Every fault is reported at once, each with its key, where it came from and what is allowed.

mod checked;
mod database;
mod http;
mod layers;
mod meanings;
mod metering;
mod nearest;
mod retention;
mod tokens;
mod value;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

use crate::domain::api_token::ApiToken;
use crate::domain::reconciliation::MaxEndings;
use crate::store::Place;
use checked::Topics;
pub use checked::{ExternalId, LogFilter, QueueUrl, Region, RoleArn, SigningKey};
use layers::Layers;
pub use layers::Origin;
pub use meanings::meaning;
pub use retention::RetentionSettings;
use value::Count;
pub use value::{Listen, LogFormat};

/// The path at which the file is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/marketd/marketd.toml";

/// Every setting.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every key with its value (secrets masked) and origin, in the order of the keys, for people.
    pub shown: Vec<(String, String, Origin)>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// `[database]`: the location of the data.
    pub database: Place,
    /// `[http]`
    pub http: HttpSettings,
    /// `[queue]`; none without a queue.
    pub queue: Option<QueueSettings>,
    /// `[integration]`
    pub integration: IntegrationSettings,
    /// `[reconcile]`
    pub reconcile: ReconcileSettings,
    /// `[metering]`
    pub metering: MeteringSettings,
    /// `[usage]`
    pub usage: UsageSettings,
    /// `[retention]`
    pub retention: RetentionSettings,
    /// `[registration]`; none without a page to send buyers to.
    pub registration: Option<RegistrationSettings>,
    /// The rest of `[registration]`.
    pub seller: SellerSettings,
    /// `[sns]`
    pub sns: SnsSettings,
    /// `[catalog]`
    pub catalog: CatalogSettings,
    /// `[access]`
    pub access: AccessSettings,
    /// `[webhook]`; none without a URL.
    pub webhook: Option<WebhookSettings>,
    /// `[log]`
    pub log: LogSettings,
}

/// The API and console.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The address on which they listen.
    pub listen: Listen,
    /// The address on which the probes are answered too, for those who keep them apart.
    pub probe_listen: Option<Listen>,
    /// The bearer token; none for a command that serves no API, even if a file holds one.
    pub token: Option<SecretString>,
    /// Every token of the API by its hash, that one among them.
    pub tokens: Vec<ApiToken>,
    /// Proxies whose `X-Forwarded-For` says whom they speak for.
    pub trusted_proxies: Vec<IpAddr>,
    /// The most connections that there may be.
    pub connections: usize,
    /// The mode of a socket, which says whom it lets in.
    pub socket_mode: u32,
    /// The folder of a proxy's in which the API and the console are, as `/marketd`; empty where there is none.
    pub path_prefix: String,
}

/// The queue of notifications.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Its address.
    pub url: QueueUrl,
    /// The number of pollers that receive at the same time.
    pub pollers: u32,
    /// The number of pollers that a backlog may raise that to.
    pub max_pollers: u32,
    /// The time for which a receive waits for messages.
    pub wait: Duration,
    /// The time for which a received message stays invisible.
    pub visibility_timeout: Duration,
    /// Set if the signatures of SNS messages are verified.
    pub verify_signatures: bool,
}

/// The connection to AWS, for those who keep it in a file.
#[derive(Clone, Debug)]
pub struct IntegrationSettings {
    /// The role.
    pub role_arn: Option<RoleArn>,
    /// The external id that its trust policy asks for.
    pub external_id: Option<ExternalId>,
}

/// Asking AWS what buyers hold.
#[derive(Clone, Debug)]
pub struct ReconcileSettings {
    /// The interval at which whole products are listed.
    pub sweep_interval: Duration,
    /// Questions under way at once.
    pub concurrency: u32,
    /// Calls a second.
    pub rate: u32,
    /// The time from an answer that misses a grant until AWS is asked again.
    pub second_look: Duration,
    /// The time for which a grant that AWS still lists is kept beyond its date.
    pub expiry_grace: Duration,
    /// The most subscriptions of a product that may end within a day because AWS lists them no more.
    pub max_endings: MaxEndings,
}

/// Billing usage.
#[derive(Clone, Debug)]
pub struct MeteringSettings {
    /// The time after its end at which an hour closes.
    pub grace: Duration,
    /// The interval at which hours are closed and records sent.
    pub interval: Duration,
    /// Calls a second.
    pub rate: u32,
    /// The time for which a record is worth sending.
    pub window: Duration,
    /// Set if hours without usage get a record of zero.
    pub zero_usage: bool,
    /// The region in which usage is metered.
    pub region: Region,
}

/// Taking reported usage.
#[derive(Clone, Debug)]
pub struct UsageSettings {
    /// The age from which on usage is not taken.
    pub max_age: Duration,
}

/// SNS over HTTPS.
#[derive(Clone, Debug)]
pub struct SnsSettings {
    /// Topics that are listened to besides those of imported products.
    pub topics: Vec<String>,
}

/// Buyers whom AWS's redirect brings.
#[derive(Clone, Debug)]
pub struct RegistrationSettings {
    /// The seller's sign-up page.
    pub redirect_url: Url,
    /// The time for which the reference that they carry there is good.
    pub reference_lifetime: Duration,
}

/// The seller, as buyers who come from AWS's redirect are told, and how often AWS is asked about those buyers.
#[derive(Clone, Debug)]
pub struct SellerSettings {
    /// The seller's name.
    pub name: Option<String>,
    /// The page where buyers find help.
    pub support_url: Option<Url>,
    /// Calls to AWS a second.
    pub rate: u32,
}

/// Keeping products in step with their listings.
#[derive(Clone, Debug)]
pub struct CatalogSettings {
    /// The interval at which each is compared.
    pub sync_interval: Duration,
}

/// Answering what customers may use.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// The time for which AWS may be out of reach before answers say so.
    pub stale_after: Duration,
}

/// Outgoing events.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// The address that they are posted to.
    pub url: Url,
    /// The key that signs them.
    pub key: SigningKey,
}

/// The log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The format of its lines.
    pub format: LogFormat,
    /// The filter of the lines that are written.
    pub filter: LogFilter,
}

/// Reads a duration as settings write it: `250ms`, `30s`, `5m`, `6h`, `1d`.
pub fn duration(text: &str) -> Option<Duration> {
    value::SettingValue::parse(text)
}

/// One fault, or several: a line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(pub Vec<String>);

/// Settings, and what could not be said of them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The things that could not be checked, a line each.
    pub notes: Vec<String>,
}

/// The files with secrets that are read: a command must not fail over one that it does not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretFiles {
    /// Every one, as the daemon needs them.
    #[default]
    All,
    /// Every one that this process may read, to check the settings of a daemon that may read more.
    Readable,
    /// Those of a pass without an API.
    Pass,
    /// That of the database.
    Database,
    /// None.
    None,
}

impl SecretFiles {
    fn reads(self, key: &str) -> bool {
        match self {
            Self::All | Self::Readable => true,
            Self::Pass => !key.starts_with("http.token"),
            Self::Database => key.starts_with("database."),
            Self::None => false,
        }
    }
}

/// The sources of settings, besides the built-in defaults; what is further down wins.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Other defaults than the built-in ones, by their dotted keys.
    pub defaults: Vec<(&'static str, String)>,
    /// The file; it must exist.
    pub file: Option<PathBuf>,
    /// Set if [`DEFAULT_FILE`] is read where no file is named, if it is there.
    pub default_file: bool,
    /// Variables; those that do not begin with `MARKETD__` are none of ours.
    pub environment: Vec<(String, String)>,
    /// The values that the command sets, by dotted keys.
    pub fixed: Vec<(&'static str, String)>,
    /// The secrets that are read from the files that hold them.
    pub secret_files: SecretFiles,
}

/// Reads the layers, for the daemon. `file` must exist if it is named; [`DEFAULT_FILE`] is read if it is there.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, SettingsError> {
    load_for(SecretFiles::All, file, environment)
}

/// Reads the layers, for a command that reads these secrets.
pub fn load_for(
    secret_files: SecretFiles,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, SettingsError> {
    load_from(Sources {
        secret_files,
        file: file.map(Path::to_owned),
        default_file: true,
        environment: environment.into_iter().collect(),
        ..Sources::default()
    })
}

/// Reads the layers from these sources.
pub fn load_from(sources: Sources) -> Result<Loaded, SettingsError> {
    let mut layers = Layers::read(sources).map_err(|fault| SettingsError(vec![fault]))?;
    let mut settings = read_all(&mut layers);
    if let Some(settings) = &mut settings {
        settings.shown = layers.shown();
        settings.file.clone_from(&layers.file);
    }
    let (faults, notes) = layers.into_faults_and_notes();
    match settings {
        Some(settings) if faults.is_empty() => Ok(Loaded { settings, notes }),
        _ => Err(SettingsError(faults)),
    }
}

fn read_all(layers: &mut Layers) -> Option<Settings> {
    let database = database::read(layers);
    let http = http::read(layers);
    let queue = queue(layers);
    let integration = IntegrationSettings {
        role_arn: layers.optional("integration.role_arn"),
        external_id: layers.optional("integration.external_id"),
    };
    let reconcile = reconcile(layers);
    let metering = metering::read(layers);
    let usage = metering::read_usage(layers);
    let retention = retention::read(layers, usage.as_ref().map(|usage| usage.max_age));
    let topics: Option<Topics> = layers.optional("sns.topics");
    let sns = SnsSettings { topics: topics.map(|Topics(topics)| topics).unwrap_or_default() };
    let registration = registration(layers);
    let seller = seller(layers);
    let catalog = layers
        .required("catalog.sync_interval")
        .map(|sync_interval| CatalogSettings { sync_interval });
    let access =
        layers.required("access.stale_after").map(|stale_after| AccessSettings { stale_after });
    let webhook = webhook(layers);
    let log = log(layers);
    layers.refuse_unknown();
    Some(Settings {
        shown: Vec::new(),
        file: None,
        database: database?,
        http: http?,
        queue: queue?,
        integration,
        reconcile: reconcile?,
        metering: metering?,
        usage: usage?,
        retention: retention?,
        sns,
        registration: registration?,
        seller: seller?,
        catalog: catalog?,
        access: access?,
        webhook,
        log: log?,
    })
}

#[expect(
    clippy::option_option,
    reason = "outside: whether it can be read; inside: whether it is set"
)]
fn queue(layers: &mut Layers) -> Option<Option<QueueSettings>> {
    let url: Option<QueueUrl> = layers.optional("queue.url");
    let pollers = layers.required("queue.pollers").map(|Count(count)| count);
    let max_pollers = layers.required("queue.max_pollers").map(|Count(count)| count);
    let wait: Option<Duration> = layers.required("queue.wait");
    let visibility_timeout: Option<Duration> = layers.required("queue.visibility_timeout");
    if wait.is_some_and(|wait| wait > Duration::from_secs(20)) {
        layers.fault("queue.wait", "is longer than SQS lets a receive wait: at most 20s");
    }
    let limits = Duration::from_secs(1)..=Duration::from_secs(43_200);
    if visibility_timeout.is_some_and(|timeout| !limits.contains(&timeout)) {
        layers.fault("queue.visibility_timeout", "is not within SQS's limits: 1s to 12h");
    }
    let verify_signatures = layers.required("queue.verify_signatures");
    let (pollers, max_pollers, wait) = (pollers?, max_pollers?, wait?);
    let (visibility_timeout, verify_signatures) = (visibility_timeout?, verify_signatures?);
    Some(url.map(|url| QueueSettings {
        url,
        pollers,
        max_pollers,
        wait,
        visibility_timeout,
        verify_signatures,
    }))
}

fn reconcile(layers: &mut Layers) -> Option<ReconcileSettings> {
    let sweep_interval = layers.required("reconcile.sweep_interval");
    let concurrency = layers.required("reconcile.concurrency").map(|Count(count)| count);
    let rate = layers.required("reconcile.rate").map(|Count(count)| count);
    let second_look = layers.required("reconcile.second_look");
    let expiry_grace = layers.required("reconcile.expiry_grace");
    let max_endings = layers.required("reconcile.max_endings");
    Some(ReconcileSettings {
        sweep_interval: sweep_interval?,
        concurrency: concurrency?,
        rate: rate?,
        second_look: second_look?,
        expiry_grace: expiry_grace?,
        max_endings: max_endings?,
    })
}

fn webhook(layers: &mut Layers) -> Option<WebhookSettings> {
    let url: Option<Url> = layers.optional("webhook.url");
    let key = layers.secret_file("webhook.secret_file");
    if url.is_some() && !layers.has("webhook.secret_file") {
        layers.fault("webhook.url", "needs webhook.secret_file, which signs the events");
    }
    url.zip(key).map(|(url, key)| WebhookSettings { url, key })
}

#[expect(
    clippy::option_option,
    reason = "outside: whether it can be read; inside: whether it is set"
)]
fn registration(layers: &mut Layers) -> Option<Option<RegistrationSettings>> {
    let redirect_url: Option<Url> = layers.optional("registration.redirect_url");
    let reference_lifetime: Duration = layers.required("registration.reference_lifetime")?;
    Some(redirect_url.map(|redirect_url| RegistrationSettings { redirect_url, reference_lifetime }))
}

fn seller(layers: &mut Layers) -> Option<SellerSettings> {
    let name = layers.optional("registration.seller_name");
    let support_url = layers.optional("registration.support_url");
    let rate = layers.required("registration.rate").map(|Count(count)| count);
    Some(SellerSettings { name, support_url, rate: rate? })
}

fn log(layers: &mut Layers) -> Option<LogSettings> {
    let format = layers.required("log.format");
    let filter: Option<LogFilter> = layers.required("log.filter");
    Some(LogSettings { format: format?, filter: filter? })
}
