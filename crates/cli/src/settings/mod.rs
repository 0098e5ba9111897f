//! The settings. Each is a row of [`ALL`], from which everything else is made: the flags and their
//! help, the variables, the file and its errors, `config`, the manual.
//!
//! 1. A value comes from the flag, else the environment variables, else the file, else the default.
//! 2. An error names the flag, the variable, or the file and line. The whole file has to be valid, also
//!    what is overridden; but ranges, some of which depend on other settings, are checked for the
//!    effective values only.
//! 3. No secret is a setting. Keys come from the sources of every AWS tool.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::file::Entry;
use self::flags::Flags;
pub(super) use self::location::Location;
use self::table::Flag::{self, Common, Policy, Serve, Tuning};
use self::table::{Row, Setting, SettingValue, Source};
pub(super) use self::time::duration;
use self::time::{Interval, Timeout};
use self::value::{Format, Kind, Level, Size, Url, Word};
use super::failure::Failure;
use super::store_url::StoreUrl;
use s3layers::{
    ClientOptions, DEFAULT_MEMORY_BUDGET, DEFAULT_PARALLELISM, DEFAULT_PART_SIZE,
    DEFAULT_PRESIGN_LIFETIME, S3Config,
};
use s3layers_registry::{
    CorsOrigins, DEFAULT_MAX_REQUESTS, ImmutableTags, Prices, TrustedProxies, WebhookUrl,
};

pub(super) mod example;
mod file;
pub(super) mod flags;
mod location;
pub(super) mod table;
mod time;
pub(super) mod value;

macro_rules! settings {
    ($($field:ident: $kind:ty = $default:expr, $row:expr;)*) => {
        /// All settings, in the order of `config`.
        pub(super) static ALL: &[Setting] = &[$(Setting {
            expected: <$kind as Kind>::EXPECTED,
            shapes: <$kind as Kind>::SHAPES,
            choices: <$kind as Kind>::CHOICES,
            is_right: |text| <$kind as Kind>::parse(text).is_some(),
            default: || {
                let default: $kind = $default;
                default.show()
            },
            ..$row
        }),*];

        /// The effective value and the source of every setting.
        #[derive(Clone, Debug)]
        pub(super) struct Settings {
            $(pub(super) $field: SettingValue<$kind>,)*
            /// The flags of the command line.
            pub(super) flags: Flags,
            /// The configuration file.
            pub(super) file: Option<Location>,
        }

        impl Settings {
            fn choose(sources: Sources<'_>) -> Result<Self, Failure> {
                Ok(Settings {
                    $($field: sources.choose($row, $default)?,)*
                    flags: sources.flags,
                    file: sources.location,
                })
            }

            /// The rows of `config`.
            pub(super) fn rows(&self) -> Vec<Row> {
                let values = [$((
                    self.$field.value.show(),
                    self.$field.value.json(),
                    self.$field.source.clone(),
                )),*];
                let row = |(setting, (value, json, source))| Row { setting, value, json, source };
                ALL.iter().zip(values).map(row).collect()
            }
        }
    };
}

settings! {
    store: Option<StoreUrl> = None,
        Setting::new(Common, "store", "PLACE", "Use the store s3://BUCKET[/ROOT], file:PATH or memory:")
            .more("Default: a folder in the user's data directory. `file:` is a store in a folder, for one \
                process at a time; in a configuration file its path is relative to the folder of that file. \
                `memory:` is lost when the program ends. For `s3:`, credentials come from the sources of every \
                AWS tool (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, SSO, the role of the machine), \
                as do certificates (AWS_CA_BUNDLE, SSL_CERT_FILE) and proxies (HTTPS_PROXY, HTTP_PROXY, \
                NO_PROXY).").sample("s3://bucket/root");
    endpoint_url: Option<Url> = None,
        Setting::new(Common, "endpoint_url", "URL", "Use the S3 store at this URL instead of AWS")
            .sample("http://127.0.0.1:9000")
            .variables_of_aws(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    region: Option<Word> = None,
        Setting::new(Common, "region", "REGION", "Use this region of the S3 store").sample("eu-central-1")
            .variables_of_aws(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
    profile: Option<Word> = None,
        Setting::new(Common, "profile", "NAME", "Use the keys of this profile in ~/.aws")
            .more("As a flag or in S3LAYERS_PROFILE: its keys are used even if the environment has some.")
            .sample("minio").variables_of_aws(&["AWS_PROFILE"]);
    part_size: Size = Size(DEFAULT_PART_SIZE),
        Setting::new(Tuning, "part_size", "SIZE", "Send parts of this size, 5 MiB to 5 GiB")
            .more("Larger parts need fewer requests and more memory. Parts grow automatically when a layer \
                becomes large. More than half of memory_budget needs a larger memory_budget.");
    parallelism: usize = DEFAULT_PARALLELISM,
        Setting::new(Tuning, "parallelism", "NUMBER", "Limit concurrent requests of one transfer, 1 to 64");
    memory_budget: Size = Size(DEFAULT_MEMORY_BUDGET),
        Setting::new(Tuning, "memory_budget", "SIZE", "Limit layer bytes in memory, at least two parts");
    single_writer: bool = false,
        Setting::new(Tuning, "single_writer", "BOOL", "Declare that no other process writes below this root")
            .more("Allows a store without conditional writes. Two writers would overwrite each other unnoticed.");
    log_level: Level = Level::Word("warn".to_owned()),
        Setting::new(Flag::None, "log.level", "LEVEL", "Log at this level; -v info, -vv debug, --quiet error")
            .variables_of_aws(&["RUST_LOG"]);
    log_format: Format = Format::Text,
        Setting::new(Tuning, "log.format", "FORMAT", "Write log lines as text or json");
    serve_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)),
        Setting::new(Serve, "serve.listen", "ADDRESS", "Listen on this address; port 0 takes a free port")
            .more("`:5000` listens on all IPv4 addresses of this machine, `localhost:5000` on 127.0.0.1.");
    serve_allow_anonymous: bool = false,
        Setting::new(Serve, "serve.allow_anonymous", "BOOL", "Allow other machines to connect, without authentication")
            .more("Every client that reaches the address can then read, push and delete. Needed without \
                serve.users and serve.policy, unless serve.listen is a loopback address.");
    serve_users: Option<PathBuf> = None,
        Setting::new(Serve, "serve.users", "FILE", "Authenticate users by this file of `htpasswd -B`")
            .more("It is read again when it changes. Without serve.policy every user may do everything.")
            .sample("users.htpasswd");
    serve_policy: Option<PathBuf> = None,
        Setting::new(Policy, "serve.policy", "FILE", "Authorize requests by this policy file")
            .more("Rules of subjects, repositories and actions, and issuers of tokens: see docs/operations.md. \
                What no rule allows is denied. It is read again when it changes. `s3layers policy explain` shows \
                what a request would get.").sample("policy.toml");
    serve_anonymous_pull: bool = false,
        Setting::new(Policy, "serve.anonymous_pull", "BOOL", "Allow clients without credentials to pull, without a policy")
            .more("With serve.policy, a rule for `everyone` does so.");
    serve_public_url: Option<Url> = None,
        Setting::new(Serve, "serve.public_url", "URL", "Send clients to this URL of the registry for tokens")
            .more("Needed with serve.users or serve.policy, unless clients reach the registry at serve.listen.")
            .sample("https://registry.example.com");
    serve_token_server: Option<Url> = None,
        Setting::new(Serve, "serve.token_server", "URL", "Send clients to this token server of another issuer")
            .more("An issuer of serve.policy with kind = \"docker\". Default: the registry's own, below \
                serve.public_url.").sample("https://auth.example.com/token");
    serve_secret_file: Option<PathBuf> = None,
        Setting::new(Serve, "serve.secret_file", "FILE", "Sign tokens with the random bytes in this file")
            .more("At least 32 bytes, for example of `openssl rand -base64 48`. All processes of one registry \
                need the same. Default: bytes that the first process stores in the bucket.")
            .sample("secret");
    serve_token_lifetime: Timeout = Timeout(Duration::from_secs(3600)),
        Setting::new(Serve, "serve.token_lifetime", "TIME", "Limit the lifetime of the registry's own tokens")
            .more("A user that is removed from serve.users has no valid token from then on, and each request is \
                held against the policy as it is then.");
    serve_upload_grace: Duration = Duration::from_secs(24 * 3600),
        Setting::new(Serve, "serve.upload_grace", "TIME", "Accept an expired token this long for uploads begun before")
            .more("Several clients do not get a new token during the upload of a layer.");
    serve_plain_credentials: bool = false,
        Setting::new(Serve, "serve.plain_credentials", "BOOL", "Accept credentials over connections without TLS")
            .more("For a network without eavesdroppers. Clients on this machine, and those whose trusted proxy \
                says that it was reached by https, need no such permission.");
    serve_tls_cert: Option<PathBuf> = None,
        Setting::new(Serve, "serve.tls_cert", "FILE", "Serve TLS with the certificates in this PEM file")
            .more("That of the server first, then those of its issuers. It is read again when it changes, as the \
                other files of TLS.").sample("server.crt");
    serve_tls_key: Option<PathBuf> = None,
        Setting::new(Serve, "serve.tls_key", "FILE", "Use the private key in this PEM file")
            .sample("server.key");
    serve_tls_client_ca: Option<PathBuf> = None,
        Setting::new(Serve, "serve.tls_client_ca", "FILE", "Authenticate clients by certificates of these CAs")
            .more("A client with such a certificate is the subject `certificate:NAME` of the policy, with the \
                first DNS name or URI in it. Others need other credentials.").sample("clients.crt");
    serve_trusted_proxies: TrustedProxies = TrustedProxies::default(),
        Setting::new(Serve, "serve.trusted_proxies", "LIST", "Trust Forwarded and X-Forwarded-* headers of these proxies")
            .more("A list of addresses and networks such as 10.0.0.0/8, with commas between them. `loopback` and \
                `private` stand for such addresses, `none` for no proxy.");
    serve_cors_origin: Option<CorsOrigins> = None,
        Setting::new(Serve, "serve.cors_origin", "LIST", "Allow scripts of these origins in a browser")
            .more("A list such as https://ui.example.com,http://localhost:8080, or * for all, whose scripts may \
                then not send credentials.").sample("https://ui.example.com");
    serve_redirect: bool = false,
        Setting::new(Serve, "serve.redirect", "BOOL", "Redirect downloads of layers to signed URLs of the store");
    serve_redirect_endpoint: Option<Url> = None,
        Setting::new(Serve, "serve.redirect_endpoint", "URL", "Redirect to this URL of the store")
            .more("For clients that reach the store by another URL than this program does.")
            .sample("https://s3.example.com");
    serve_redirect_lifetime: Duration = DEFAULT_PRESIGN_LIFETIME,
        Setting::new(Serve, "serve.redirect_lifetime", "TIME", "Limit the lifetime of this URL, up to 7 days");
    serve_relative_location: bool = false,
        Setting::new(Serve, "serve.relative_location", "BOOL", "Send locations without scheme and host")
            .more("For a proxy that does not forward the host of the request.");
    serve_sparse: bool = false,
        Setting::new(Serve, "serve.sparse", "BOOL", "Accept manifests that name content that is not stored");
    serve_automatic_mount: bool = false,
        Setting::new(Serve, "serve.automatic_mount", "BOOL", "Mount layers from any repository if no source is named")
            .more("Anyone who may push to one repository and knows the digest of a layer can then read it.");
    serve_max_requests: usize = DEFAULT_MAX_REQUESTS,
        Setting::new(Serve, "serve.max_requests", "NUMBER", "Limit concurrent requests, except transfers of layers")
            .more("A quarter of them is kept for reads of blobs and manifests.");
    serve_max_requests_per_client: Option<usize> = None,
        Setting::new(Serve, "serve.max_requests_per_client", "NUMBER", "Limit concurrent requests of one client")
            .more("By its address; behind a trusted proxy, by the address that the proxy names. 429 above.")
            .sample("64");
    serve_max_connections_per_client: Option<usize> = None,
        Setting::new(Serve, "serve.max_connections_per_client", "NUMBER", "Limit concurrent connections from one address")
            .more("Further ones are closed at once. Behind a proxy all come from its address.").sample("64");
    serve_read_only: bool = false,
        Setting::new(Serve, "serve.read_only", "BOOL", "Refuse all requests that write")
            .more("This process makes no sweeps and no collections then.");
    serve_no_delete: bool = false,
        Setting::new(Serve, "serve.no_delete", "BOOL", "Refuse to remove blobs, manifests and tags");
    serve_immutable_tags: Option<ImmutableTags> = None,
        Setting::new(Serve, "serve.immutable_tags", "LIST", "Refuse to move or remove these tags")
            .more("A list of REPOSITORY:TAG with commas between them, such as **:v*; * stops at a slash, ** does \
                not. In such repositories manifests and blobs are not removed by digest.").sample("**:v*");
    serve_metrics_listen: Option<SocketAddr> = None,
        Setting::new(Serve, "serve.metrics_listen", "ADDRESS", "Serve metrics for Prometheus on this address, at /metrics")
            .more("Without authentication and TLS: an address that only the scraper reaches.")
            .sample("127.0.0.1:9090");
    serve_s3_prices: Prices = Prices::default(),
        Setting::new(Serve, "serve.s3_prices", "WRITES,READS", "Set the prices of requests to S3, for metrics")
            .more("In dollars for 1000 writes and lists, and for 1000 reads; removals are free. Default: AWS S3 \
                Standard.");
    serve_webhook: Option<WebhookUrl> = None,
        Setting::new(Serve, "serve.webhook", "URL", "Post events about pushes, pulls and removals to this URL")
            .more("Mounts, too, in the envelope of distribution's webhooks. A URL with http:// has to be of this machine.")
            .sample("https://hooks.example.com/registry");
    serve_webhook_authorization: Option<PathBuf> = None,
        Setting::new(Serve, "serve.webhook_authorization", "FILE", "Send the Authorization header in this file to serve.webhook")
            .more("One line, such as `Bearer TOKEN`.").sample("webhook-authorization");
    serve_body_timeout: Timeout = Timeout(Duration::from_secs(600)),
        Setting::new(Serve, "serve.body_timeout", "TIME", "Limit pauses of a client that sends a body")
            .more("Then the request is answered with 408. Every byte that arrived is kept, and the client can \
                resume the upload.");
    serve_write_timeout: Timeout = Timeout(Duration::from_secs(600)),
        Setting::new(Serve, "serve.write_timeout", "TIME", "Limit pauses of a client that reads an answer");
    serve_idle_timeout: Timeout = Timeout(Duration::from_secs(620)),
        Setting::new(Serve, "serve.idle_timeout", "TIME", "Close a connection that has been idle this long")
            .more("A load balancer must close its idle connections first; several keep them for 600 seconds.");
    serve_header_timeout: Timeout = Timeout(Duration::from_secs(60)),
        Setting::new(Serve, "serve.header_timeout", "TIME", "Limit how long the head of a request may take");
    serve_drain: Duration = Duration::from_secs(8),
        Setting::new(Serve, "serve.drain", "TIME", "Limit how long running requests may take after a stop")
            .more("Uploads that need longer are aborted in the last third of this time. Every byte that arrived \
                is kept, and any process can resume them. `docker stop` kills after 10 seconds.");
    serve_sweep_every: Interval = Interval(Some(Duration::from_secs(3600))),
        Setting::new(Serve, "serve.sweep_every", "TIME", "Remove uploads untouched for 7 days this often, or `off`")
            .more("Any number of processes may do so. The first sweep is at a random time within this interval.");
    serve_gc_every: Interval = Interval(None),
        Setting::new(Serve, "serve.gc_every", "TIME", "Collect layers that no manifest names this often, or `off`")
            .more("As `gc` does, in any number of processes. A layer goes some passes and two days after the \
                last manifest that names it.").sample("12h");
}

impl Settings {
    /// The settings of this process.
    pub(super) fn of_process(flags: Flags, file: Option<&Path>) -> Result<Self, Failure> {
        check_variables(std::env::vars_os().map(|(name, _)| name))?;
        let location = Location::of_process(file)?;
        let entries = match &location {
            Some(location) => location.read()?,
            None => Vec::new(),
        };
        let settings = Settings::choose(Sources {
            flags,
            location,
            entries,
            variable: &|name| std::env::var_os(name),
        })?;
        settings.check()?;
        Ok(settings)
    }

    /// Adds the settings of the service to its configuration.
    pub(super) fn apply(&self, config: S3Config) -> S3Config {
        let config = config
            .part_size(self.part_size.value.0)
            .parallelism(self.parallelism.value)
            .memory_budget(self.memory_budget.value.0)
            .single_writer(self.single_writer.value)
            .presign_lifetime(self.serve_redirect_lifetime.value);
        match &self.serve_redirect_endpoint.value {
            Some(url) => config.presign_endpoint(&url.0),
            None => config,
        }
    }

    /// The options of the S3 client. Variables of AWS are left to the SDK.
    pub(super) fn client_options(&self) -> ClientOptions {
        let text = |chosen: &SettingValue<Option<Word>>| {
            let ours = chosen.value.as_ref().filter(|_| chosen.is_ours());
            ours.map(|word| word.0.clone())
        };
        let endpoint = self.endpoint_url.value.as_ref();
        ClientOptions {
            endpoint_url: endpoint
                .filter(|_| self.endpoint_url.is_ours())
                .map(|url| url.0.clone()),
            region: text(&self.region),
            profile: text(&self.profile),
            // The environment overrides the file, with its keys too.
            prefer_profile: !matches!(self.profile.source, Source::File { .. }),
        }
    }

    /// The arguments that repeat these settings: the store, its endpoint, and the flags.
    pub(super) fn words(&self, store_url: &StoreUrl) -> Vec<String> {
        let mut words = vec!["--store".to_owned(), store_url.to_string()];
        let mut has = |flag: &str, value: &str| {
            words.extend([flag.to_owned(), value.to_owned()]);
        };
        if let Some(file) = self.file.as_ref().filter(|file| file.is_named) {
            has("--config", &file.path.to_string_lossy());
        }
        if matches!(store_url, StoreUrl::S3 { .. }) {
            if let Some(url) = &self.endpoint_url.value {
                has("--endpoint-url", &url.0);
            }
            if let Some(region) = &self.region.value {
                has("--region", &region.0);
            }
        }
        let named = ["store", "endpoint_url", "region"];
        let given = self.flags.words().filter(|(name, _)| !named.contains(name));
        words.extend(given.map(|(_, word)| word));
        words
    }

    /// Checks the ranges of all values.
    fn check(&self) -> Result<(), Failure> {
        let (bucket, root) = match &self.store.value {
            Some(StoreUrl::S3 { bucket, root }) => (bucket.as_str(), root.as_str()),
            _ => ("bucket", ""),
        };
        let Err(error) = self.apply(S3Config::new(bucket).root(root)).check() else {
            return Ok(());
        };
        // The user set the part size, and not the budget.
        let is_part = error.option == "memory_budget"
            && self.memory_budget.source == Source::Default
            && self.part_size.source != Source::Default;
        if is_part {
            let (part, budget) = (self.part_size.value, self.memory_budget.value);
            let expected = format!(
                "at most {}, half of memory_budget, or a memory_budget of at least {}",
                text(Size(budget.0 / 2)),
                text(Size(part.0.saturating_mul(2)))
            );
            return Err(self
                .part_size
                .source
                .refuse("part_size", &text(part), &expected));
        }
        let name = match error.option {
            "bucket" | "root" => "store",
            "presign_lifetime" => "serve.redirect_lifetime",
            "presign_endpoint" => "serve.redirect_endpoint",
            name => name,
        };
        let rows = self.rows();
        let Some(row) = rows.iter().find(|row| row.setting.name == name) else {
            return Err(Failure::usage(error.to_string()));
        };
        let value = row.value.as_deref().unwrap_or(&error.value);
        Err(row.source.refuse(name, value, &error.expected))
    }
}

/// Refuses variables that look like those of a table of settings, and are of none: a misspelt limit would not hold.
/// Others are not ours: Kubernetes gives a service that is called s3layers `S3LAYERS_SERVICE_HOST`.
fn check_variables(names: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let known: Vec<_> = ALL.iter().flat_map(Setting::variables).collect();
    for name in names.filter_map(|name| name.into_string().ok()) {
        for table in ["serve", "log"] {
            let prefix = format!("S3LAYERS_{}_", table.to_uppercase());
            if let Some(key) = name.strip_prefix(&prefix)
                && !known.contains(&name)
            {
                let setting = format!("{table}.{}", key.to_lowercase());
                let what = file::no_setting(&setting, ALL);
                return Err(Failure::usage(format!("{name}: {what}")));
            }
        }
    }
    Ok(())
}

/// A value in errors.
fn text(value: impl Kind) -> String {
    value.show().unwrap_or_default()
}

/// The sources of values.
struct Sources<'a> {
    flags: Flags,
    location: Option<Location>,
    /// The settings in the file.
    entries: Vec<Entry>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Sources<'_> {
    /// The value of a setting.
    fn choose<T: Kind>(&self, setting: Setting, default: T) -> Result<SettingValue<T>, Failure> {
        let Some((text, source)) = self.find(&setting)? else {
            let source = Source::Default;
            return Ok(SettingValue {
                value: default,
                source,
            });
        };
        match T::parse_at(&text, &source) {
            Some(value) => Ok(SettingValue { value, source }),
            None => Err(source.refuse(setting.name, &text, T::EXPECTED)),
        }
    }

    fn find(&self, setting: &Setting) -> Result<Option<(String, Source)>, Failure> {
        if let Some(given) = self.flags.get(setting.name) {
            return Ok(Some((given.text.clone(), Source::Flag(given.flag.clone()))));
        }
        for name in setting.variables() {
            if let Some(text) = self.text_of(&name)? {
                return Ok(Some((text, Source::Environment(name))));
            }
        }
        let entry = self.entries.iter().find(|entry| entry.name == setting.name);
        Ok(entry.zip(self.location.as_ref()).map(|(entry, location)| {
            let source = Source::File {
                path: location.path.clone(),
                line: entry.line,
            };
            (entry.text.clone(), source)
        }))
    }

    /// The value of a variable, unless it is empty.
    fn text_of(&self, name: &str) -> Result<Option<String>, Failure> {
        let is_set = |name| (self.variable)(name).is_some_and(|text| text == "true");
        // The SDK ignores the endpoint then.
        if name.starts_with("AWS_ENDPOINT_URL") && is_set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
            return Ok(None);
        }
        let Some(text) = (self.variable)(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let text = text.into_string();
        text.map(Some)
            .map_err(|_| Failure::usage(format!("{name} is not valid UTF-8")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sources<'a>(
        file: &str,
        variable: &'a dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Sources<'a>, file::Wrong> {
        Ok(Sources {
            flags: Flags::default(),
            location: Some(Location {
                path: "config.toml".into(),
                is_named: true,
            }),
            entries: file::read(file, ALL)?,
            variable,
        })
    }

    #[test]
    fn example_has_every_setting_and_is_valid() {
        let text = example::text();
        let all: String = text
            .lines()
            .map(|line| {
                let is_setting = line.starts_with('#') && !line.starts_with("# ");
                format!(
                    "{}\n",
                    line.strip_prefix('#')
                        .filter(|_| is_setting)
                        .unwrap_or(line)
                )
            })
            .collect();
        let entries = file::read(&all, ALL).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        let expected: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
        assert_eq!(names, expected);
        assert_eq!(file::read(&text, ALL).unwrap(), []);
    }

    #[test]
    fn misspelt_variable_is_refused() {
        let check = |name: &str| check_variables([OsString::from(name)].into_iter());
        for name in [
            "S3LAYERS_SERVE_GC_EVERY",
            "S3LAYERS_LOG_LEVEL",
            "S3LAYERS_SERVICE_HOST",
            "S3LAYERS_PORT",
            "OTHER_SERVE_X",
        ] {
            assert!(check(name).is_ok(), "{name}");
        }
        let failure = check("S3LAYERS_SERVE_GC_EVRY").unwrap_err();
        let said = failure.lines.join(" ");
        for word in ["S3LAYERS_SERVE_GC_EVRY", "serve.gc_every is the nearest"] {
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().flat_map(Setting::variables).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.contains(&"S3LAYERS_SERVE_LISTEN".to_owned()));
        for setting in ALL {
            assert!(!setting.about.is_empty(), "{}", setting.name);
            let default = (setting.default)();
            let value = default.as_deref().unwrap_or(setting.sample);
            assert!((setting.is_right)(value), "{}: {value:?}", setting.name);
        }
    }

    #[test]
    fn errors_in_a_file() {
        for (text, line, wants) in [
            (
                "part_siz = 1",
                1,
                &["part_siz", "part_size is the nearest"][..],
            ),
            ("\npart-size = 1", 2, &["part_size is the nearest"]),
            ("listen = \"x\"", 1, &["serve.listen is the nearest"]),
            ("[server]\nlisten = 1", 1, &["serve is the nearest"]),
            (
                "[serve]\n\nlissen = 1",
                3,
                &["serve.lissen", "serve.listen is"],
            ),
            (
                "zzz = 1",
                1,
                &["there is no setting zzz", "s3layers config"],
            ),
            (
                "[serve]\nsecret_fil = \"x\"",
                2,
                &["serve.secret_file is the nearest"],
            ),
            ("store = 1", 1, &["store is 1", "s3://BUCKET"]),
            ("[store]\nx = 1", 1, &["store is of the type table"]),
            ("serve = 1", 1, &["[serve]"]),
            (
                "parallelism = \"8\"",
                1,
                &["parallelism is \"8\"", "without quotes"],
            ),
            ("parallelism = 0", 1, &["parallelism is 0", "above 0"]),
            ("part_size = 1.5", 1, &["part_size is 1.5", "16 MiB"]),
            (
                "single_writer = 1",
                1,
                &["single_writer is 1", "true or false"],
            ),
            ("region = [", 1, &[]),
            ("region = \"a\"\nregion = \"b\"", 2, &["duplicate key"]),
        ] {
            let wrong = file::read(text, ALL).unwrap_err();
            assert_eq!(wrong.line, line, "{text}: {wrong:?}");
            for want in wants {
                assert!(wrong.what.contains(want), "{text}: {wrong:?}");
            }
        }
    }

    #[test]
    fn no_secret_in_a_file_is_repeated() {
        for text in [
            "secret_access_key = \"canary\"",
            "aws_session_token = \"canary\"",
            "pasword = \"canary\"",
            "endpoint_url = \"http://user:canary@host\"",
            "secret_key = \"canary",
            "[profile]\nsecret = \"canary\"",
        ] {
            let wrong = file::read(text, ALL).unwrap_err();
            assert!(!wrong.what.contains("canary"), "{text}: {wrong:?}");
        }
        let wrong = file::read("secret_access_key = \"canary\"", ALL).unwrap_err();
        assert!(wrong.what.contains("AWS_SECRET_ACCESS_KEY"), "{wrong:?}");
    }

    #[test]
    fn precedence_of_sources() {
        let file = "region = \"file\"\nparallelism = 3\n";
        for (set, want, from) in [
            (&[][..], "file", "config.toml:1"),
            (
                &["AWS_DEFAULT_REGION"],
                "AWS_DEFAULT_REGION",
                "AWS_DEFAULT_REGION",
            ),
            (
                &["AWS_DEFAULT_REGION", "AWS_REGION"],
                "AWS_REGION",
                "AWS_REGION",
            ),
            (
                &["AWS_REGION", "S3LAYERS_REGION"],
                "S3LAYERS_REGION",
                "S3LAYERS_REGION",
            ),
        ] {
            let variable = |name: &str| set.contains(&name).then(|| OsString::from(name));
            let settings = Settings::choose(sources(file, &variable).unwrap()).unwrap();
            assert_eq!(settings.region.value, Some(Word(want.to_owned())));
            assert_eq!(settings.region.source.to_string(), from);
            assert_eq!(settings.parallelism.value, 3);
        }
    }

    #[test]
    fn ranges_are_checked_with_their_source() {
        let none = |_: &str| None;
        for (file, want) in [
            (
                "part_size = \"1 MiB\"",
                "config.toml:1: part_size is 1 MiB; expected 5 MiB to 5 GiB",
            ),
            (
                "\nparallelism = 65",
                "config.toml:2: parallelism is 65; expected 1 to 64",
            ),
            (
                "part_size = \"1 GiB\"",
                "config.toml:1: part_size is 1 GiB; expected at most 128 MiB, half of memory_budget",
            ),
            (
                "memory_budget = \"8 MiB\"",
                "config.toml:1: memory_budget is 8 MiB; expected at least two parts",
            ),
            (
                "store = \"s3://b/a//b\"",
                "config.toml:1: store is s3://b/a//b; expected path segments",
            ),
            (
                "[serve]\nredirect_lifetime = \"8d\"",
                "config.toml:2: serve.redirect_lifetime is 192h",
            ),
        ] {
            let settings = Settings::choose(sources(file, &none).unwrap()).unwrap();
            let failure = settings.check().unwrap_err();
            assert!(failure.lines[0].contains(want), "{file}: {failure:?}");
            assert_eq!(failure.code, 2);
        }
    }
}
