//! `policy explain`: what a request would get, and by which rule.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::serve::policy_of;
use super::settings::value::FilePath;
use s3layers_registry::{Access, Decision, Identity, Subject, needs};

/// Show what the policy of `serve` allows
#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Explain(Explain),
}

/// Show what a request would get, and by which rule
#[derive(Debug, Args)]
struct Explain {
    /// For this user or subject, `anonymous` without credentials
    ///
    /// A name stands for a user: `alice` is `user:alice`. Other subjects are written as in a policy:
    /// `certificate:NAME`, `token:ISSUER:NAME`.
    #[arg(value_name = "USER")]
    subject: String,
    /// Of a request with this method
    method: String,
    /// And this path, such as /v2/library/alpine/tags/list
    path: String,
    /// Take the subject to be in this group
    ///
    /// The groups in the policy are known; this is for those that the claims of a token give.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
}

/// One access, and what came of it.
#[derive(Serialize)]
struct Line {
    event: &'static str,
    access: String,
    optional: bool,
    allowed: bool,
    reason: String,
}

impl Policy {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let Command::Explain(explain) = &self.command;
        explain.run(context)
    }
}

impl Explain {
    fn run(&self, context: &Context) -> Result<(), Failure> {
        let settings = &context.settings;
        let policy = match &settings.serve_policy.value {
            Some(FilePath(file)) => policy_of(file)?,
            None => s3layers_registry::Policy::for_users(settings.serve_anonymous_pull.value),
        };
        let identity = Identity {
            subject: subject(&self.subject),
            groups: self.groups.clone(),
        };
        let refused = |error| Failure::usage(format!("{} {}: {error}", self.method, self.path));
        let needs = needs(&self.method, &self.path).map_err(refused)?;
        if needs.needed.is_none() {
            return self.print(
                context,
                "open to every client",
                false,
                Ok("no access is needed"),
            );
        }
        let needed = needs.needed.map(|access| (access, false));
        let optional = needs.optional.map(|access| (access, true));
        for (access, is_optional) in needed.into_iter().chain(optional) {
            let reason = decide(&policy, &identity, &access);
            let reason = reason.as_deref().map_err(String::as_str);
            self.print(context, &access.to_string(), is_optional, reason)?;
        }
        Ok(())
    }

    fn print(
        &self,
        context: &Context,
        access: &str,
        optional: bool,
        reason: Result<&str, &str>,
    ) -> Result<(), Failure> {
        let (Ok(text) | Err(text)) = reason;
        let kind = if optional { "optional" } else { "needed" };
        context
            .output
            .say(format_args!("{kind}  {access}: {text}"))?;
        context.output.event(&Line {
            event: "access",
            access: access.to_owned(),
            optional,
            allowed: reason.is_ok(),
            reason: text.to_owned(),
        })
    }
}

fn subject(text: &str) -> Subject {
    if text == "anonymous" || text.contains(':') {
        return Subject::new(text);
    }
    Subject::new(format!("user:{text}"))
}

/// Why an access is allowed, or an error that says why it is not.
fn decide(
    policy: &s3layers_registry::Policy,
    identity: &Identity,
    access: &Access,
) -> Result<String, String> {
    let Some((name, action)) = access.in_repository() else {
        return Ok("allowed to every client with credentials or a token".to_owned());
    };
    match policy.decide(identity, name, action) {
        decision @ Decision::Allowed(_) => Ok(decision.to_string()),
        decision @ Decision::Denied => Err(decision.to_string()),
    }
}
