//! `config`: shows every setting and its source.

use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::Context;
use super::failure::Failure;
use super::output::Output;
use super::settings::table::{Row, Source};
use super::settings::{Location, example};
use super::store_url::StoreUrl;
use s3layers::{ClientEnvironment, CredentialSource, client_environment};

/// Show every setting and its source
///
/// A value comes from the flag, else the environment variable, else the configuration file, else the
/// default. Makes no request to the store, and shows no secret.
#[derive(Debug, Args)]
pub(super) struct Config {
    /// Print the path of the configuration file
    #[arg(long)]
    path: bool,
    /// Print a configuration file with every setting, as comments
    #[arg(long, conflicts_with = "path")]
    example: bool,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    File {
        path: Option<&'a Path>,
        exists: bool,
    },
    Setting {
        name: &'a str,
        value: Value,
        source: &'a str,
        /// The flag, the variable, or the file and its line.
        from: String,
    },
    Credentials {
        source: &'a str,
        from: String,
        access_key_id: Option<&'a str>,
    },
}

impl Config {
    /// Whether only the file is concerned, which may be broken then.
    pub(super) fn is_about_the_file(&self) -> bool {
        self.path || self.example
    }

    pub(super) fn show_file(&self, output: Output, named: Option<&Path>) -> Result<(), Failure> {
        if self.example {
            return output.raw("config --example", example::text().as_bytes());
        }
        let location = Location::of_process(named)?;
        let location = location.ok_or_else(|| Failure::new("there is no configuration file"))?;
        output.say(location.path.display())?;
        output.event(&Event::File {
            path: Some(&location.path),
            exists: location.exists(),
        })
    }

    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let known = match context.store_url {
            StoreUrl::S3 { .. } => Some(client_settings(context).await?),
            // It has its own keys; no file of AWS is read.
            StoreUrl::Folder(_) | StoreUrl::Memory => None,
        };
        let mut rows = context.settings.rows();
        if let Some(store) = rows.iter_mut().find(|row| row.setting.name == "store") {
            store.or_else(Some(&context.store_url.to_string()), &Source::Default);
        }
        if let Some(known) = &known
            && let Some(name) = &known.profile
        {
            let profile = Source::Profile(name.clone());
            for row in &mut rows {
                match row.setting.name {
                    "endpoint_url" => row.or_else(known.endpoint_url.as_deref(), &profile),
                    "region" => row.or_else(known.region.as_deref(), &profile),
                    _ => {}
                }
            }
        }
        show(
            context,
            &rows,
            known.as_ref().map(|known| &known.credentials),
        )
    }
}

async fn client_settings(context: &Context) -> Result<ClientEnvironment, Failure> {
    let known = client_environment(&context.settings.client_options()).await;
    known.map_err(|error| Failure::of(&error))
}

fn show(context: &Context, rows: &[Row], keys: Option<&CredentialSource>) -> Result<(), Failure> {
    let output = context.output;
    let file = context.settings.file.as_ref();
    let exists = file.is_some_and(Location::exists);
    output.event(&Event::File {
        path: file.map(|file| &*file.path),
        exists,
    })?;
    let path = match (file, exists) {
        (None, _) => "none".to_owned(),
        (Some(file), true) => file.path.display().to_string(),
        (Some(file), false) => format!("{} (not found)", file.path.display()),
    };
    output.say(format_args!("configuration file: {path}\n"))?;
    let value = |row: &Row| row.value.clone().unwrap_or_else(|| "-".to_owned());
    let mut cells = vec![["SETTING", "VALUE", "FROM"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let name = row.setting.name.to_owned();
        [name, value(row), row.source.to_string()]
    }));
    let (source, from, access_key_id) = credentials(keys);
    let id = access_key_id.unwrap_or("-").to_owned();
    cells.push(["access key id".to_owned(), id, from.clone()]);
    for line in aligned(&cells) {
        output.say(line)?;
    }
    for row in rows {
        output.event(&Event::Setting {
            name: row.setting.name,
            value: row.json.clone(),
            source: row.source.kind(),
            from: row.source.to_string(),
        })?;
    }
    output.event(&Event::Credentials {
        source,
        from,
        access_key_id,
    })
}

/// The credentials of the store: the kind of their source, that source, and the id of the key if it is known.
fn credentials(keys: Option<&CredentialSource>) -> (&'static str, String, Option<&str>) {
    match keys {
        None => (
            "embedded",
            "the embedded store has its own".to_owned(),
            None,
        ),
        Some(CredentialSource::Environment { access_key_id }) => {
            let from = "AWS_ACCESS_KEY_ID".to_owned();
            ("environment", from, Some(access_key_id))
        }
        Some(CredentialSource::Profile {
            name,
            by,
            access_key_id,
        }) => {
            let from = format!("AWS profile {name}: {by}");
            ("aws_profile", from, access_key_id.as_deref())
        }
        Some(CredentialSource::WebIdentity) => {
            let from = "AWS_WEB_IDENTITY_TOKEN_FILE".to_owned();
            ("web_identity", from, None)
        }
        Some(CredentialSource::Container) => {
            ("container", "the container, if it has any".to_owned(), None)
        }
        Some(CredentialSource::Machine) => {
            let from = "the role of this machine, if it has one".to_owned();
            ("machine", from, None)
        }
        Some(CredentialSource::None) => {
            let from = "none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned();
            ("none", from, None)
        }
    }
}

/// Columns, two spaces apart.
fn aligned(cells: &[[String; 3]]) -> Vec<String> {
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    let line =
        |[name, value, from]: &[String; 3]| format!("{name:first$}  {value:second$}  {from}");
    cells.iter().map(line).collect()
}
