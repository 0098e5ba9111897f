//! `policy explain`: what a request would get, and by which rule.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::serve::policy_of;
use s3layers_registry::{Access, Decision, Identity, Subject, needs};

/// Show what the policy of `serve` allows
#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a request would get, and by which rule
    Explain {
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
    },
}

/// One access, and what came of it.
#[derive(Serialize)]
#[serde(tag = "event", rename = "access")]
struct AccessEvent<'a> {
    access: &'a str,
    optional: bool,
    allowed: bool,
    reason: &'a str,
}

impl Policy {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let Command::Explain {
            subject,
            method,
            path,
            groups,
        } = &self.command;
        let settings = &context.settings;
        let policy = match &settings.serve_policy.value {
            Some(file) => policy_of(file)?,
            None => s3layers_registry::Policy::for_users(settings.serve_anonymous_pull.value),
        };
        let identity = Identity {
            subject: subject_of(subject),
            groups: groups.clone(),
        };
        let refused = |error| Failure::usage(format!("{method} {path}: {error}"));
        let needs = needs(method, path).map_err(refused)?;
        let print = |access: &str, optional, (allowed, reason): (bool, &str)| {
            let kind = if optional { "optional" } else { "needed" };
            let output = context.output;
            output.say(format_args!("{kind}  {access}: {reason}"))?;
            output.event(&AccessEvent {
                access,
                optional,
                allowed,
                reason,
            })
        };
        let Some(needed) = needs.needed else {
            return print("open to every client", false, (true, "no access is needed"));
        };
        let optional = needs.optional.map(|access| (access, true));
        for (access, is_optional) in std::iter::once((needed, false)).chain(optional) {
            let (allowed, reason) = decide(&policy, &identity, &access);
            print(&access.to_string(), is_optional, (allowed, &reason))?;
        }
        Ok(())
    }
}

fn subject_of(text: &str) -> Subject {
    if text == "anonymous" || text.contains(':') {
        return Subject::new(text);
    }
    Subject::new(format!("user:{text}"))
}

/// Whether an access is allowed, and why.
fn decide(
    policy: &s3layers_registry::Policy,
    identity: &Identity,
    access: &Access,
) -> (bool, String) {
    let Some((name, action)) = access.in_repository() else {
        let reason = "allowed to every client with credentials or a token";
        return (true, reason.to_owned());
    };
    let decision = policy.decide(identity, name, action);
    let is_allowed = matches!(decision, Decision::Allowed(_));
    (is_allowed, decision.to_string())
}
