//! The policy file: which subjects may do what in which repositories. Pure.
//!
//! ```toml
//! [groups]
//! developers = ["user:alice", "user:bob"]
//!
//! [[rules]]
//! subjects = ["everyone"]
//! repositories = ["library/**"]
//! actions = ["pull"]
//!
//! [[rules]]
//! subjects = ["group:developers", "certificate:*.build.example.com"]
//! repositories = ["team/**"]
//! actions = ["pull", "push"]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::issuer::{Issuer, Kind, RawIssuer, Wrong, is_not};
use super::pattern::Pattern;
use super::{Action, Subject};
use s3layers::RepositoryName;

/// Who a client is, and the groups that its credentials put it into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub subject: Subject,
    /// Groups besides those that the policy lists.
    pub groups: Vec<String>,
}

impl Identity {
    /// A subject that is in no group by itself.
    #[must_use]
    pub fn of(subject: Subject) -> Self {
        Identity {
            subject,
            groups: Vec::new(),
        }
    }
}

/// Rules. What no rule allows is denied.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    groups: BTreeMap<String, Vec<Pattern>>,
    pub(super) issuers: Vec<Issuer>,
}

#[derive(Clone, Debug)]
struct Rule {
    subjects: Vec<Subjects>,
    repositories: Vec<Pattern>,
    actions: BTreeSet<Action>,
    origin: String,
}

/// Subjects that a rule names.
#[derive(Clone, Debug)]
enum Subjects {
    /// `everyone`
    Everyone,
    /// `anonymous`
    Anonymous,
    /// `authenticated`
    Authenticated,
    /// `group:NAME`
    Group(String),
    /// `user:PATTERN`, `certificate:PATTERN`, `token:PATTERN`
    Named(Pattern),
}

/// What a policy says of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// By this rule: `policy.toml:12`.
    Allowed(String),
    /// No rule allows it.
    Denied,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Allowed(origin) => write!(f, "allowed by {origin}"),
            Decision::Denied => f.write_str("denied: no rule allows it"),
        }
    }
}

/// What is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct PolicyError {
    file: String,
    line: usize,
    what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    #[serde(default)]
    groups: BTreeMap<String, Vec<Spanned<String>>>,
    #[serde(default)]
    rules: Vec<Spanned<RawRule>>,
    #[serde(default)]
    issuers: Vec<Spanned<RawIssuer>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    subjects: Vec<Spanned<String>>,
    repositories: Vec<Spanned<String>>,
    actions: Vec<Spanned<String>>,
}

impl Policy {
    /// Whether it accepts the tokens of a token server, an issuer of kind `docker`.
    #[must_use]
    pub fn has_docker_issuer(&self) -> bool {
        self.issuers
            .iter()
            .any(|issuer| issuer.kind == Kind::Docker)
    }

    /// Reads the text of a policy file, whose name errors and decisions have.
    ///
    /// # Errors
    ///
    /// What is wrong and in which line.
    pub fn parse(text: &str, file: &str) -> Result<Self, PolicyError> {
        Policy::read(text, file).map_err(|(span, what)| PolicyError {
            file: file.to_owned(),
            line: line_of(text, span.start),
            what,
        })
    }

    fn read(text: &str, file: &str) -> Result<Self, Wrong> {
        let raw: RawPolicy = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            (span, error.message().trim().replace('\n', ", "))
        })?;
        let mut policy = Policy::default();
        for issuer in raw.issuers {
            let span = issuer.span();
            policy.add_issuer(Issuer::of(issuer)?, span)?;
        }
        for (name, members) in raw.groups {
            let members = members.iter().map(|member| policy.named(member));
            let members = members.collect::<Result<_, _>>()?;
            policy.groups.insert(name, members);
        }
        for rule in raw.rules {
            let origin = format!("{file}:{}", line_of(text, rule.span().start));
            policy.add(rule.into_inner(), origin)?;
        }
        Ok(policy)
    }

    /// The same policy, whose files (keys, CAs) stand relative to this folder.
    #[must_use]
    pub fn with_folder(mut self, folder: &Path) -> Self {
        for issuer in &mut self.issuers {
            issuer.begin_in(folder);
        }
        self
    }

    /// The policy without a file: clients that have credentials may do everything.
    #[must_use]
    pub fn for_users(anonymous_pull: bool) -> Self {
        let rule = |subjects, actions: &[Action], origin: &str| Rule {
            subjects: vec![subjects],
            repositories: Pattern::parse("**").into_iter().collect(),
            actions: actions.iter().copied().collect(),
            origin: origin.to_owned(),
        };
        let mut rules = vec![rule(
            Subjects::Authenticated,
            &Action::ALL,
            "the rule for authenticated clients, without a policy file",
        )];
        if anonymous_pull {
            rules.push(rule(
                Subjects::Everyone,
                &[Action::Pull],
                "serve.anonymous_pull",
            ));
        }
        Policy {
            rules,
            ..Policy::default()
        }
    }

    /// A subject and a claim `iss` lead to one issuer.
    fn add_issuer(&mut self, issuer: Issuer, span: Range<usize>) -> Result<(), Wrong> {
        let same = |known: &&Issuer| known.name == issuer.name || known.issuer == issuer.issuer;
        if let Some(known) = self.issuers.iter().find(same) {
            let what = format!(
                "the issuer {} has the name or the URL of another one, {}",
                issuer.name, known.name
            );
            return Err((span, what));
        }
        self.issuers.push(issuer);
        Ok(())
    }

    fn add(&mut self, raw: RawRule, origin: String) -> Result<(), Wrong> {
        let subjects = raw.subjects.iter().map(|subject| self.subjects(subject));
        let repositories = raw.repositories.iter().map(repositories);
        let actions = raw
            .actions
            .iter()
            .map(actions)
            .collect::<Result<Vec<_>, _>>()?;
        let rule = Rule {
            subjects: subjects.collect::<Result<_, _>>()?,
            repositories: repositories.collect::<Result<_, _>>()?,
            actions: actions.into_iter().flatten().collect(),
            origin,
        };
        self.rules.push(rule);
        Ok(())
    }

    fn subjects(&self, text: &Spanned<String>) -> Result<Subjects, Wrong> {
        match text.get_ref().as_str() {
            "everyone" => return Ok(Subjects::Everyone),
            "anonymous" => return Ok(Subjects::Anonymous),
            "authenticated" => return Ok(Subjects::Authenticated),
            _ => {}
        }
        let Some(group) = text.get_ref().strip_prefix("group:") else {
            return self.named(text).map(Subjects::Named);
        };
        let by_issuer = self.issuers.iter().any(|issuer| issuer.has_group(group));
        if !by_issuer && !self.groups.contains_key(group) {
            let what = format!("there is no group {group:?} in [groups] or in an issuer's groups");
            return Err((text.span(), what));
        }
        Ok(Subjects::Group(group.to_owned()))
    }

    fn named(&self, text: &Spanned<String>) -> Result<Pattern, Wrong> {
        let subject = text.get_ref();
        let kind_and_name = subject.split_once(':').filter(|(kind, name)| {
            ["user", "certificate", "token"].contains(kind) && !name.is_empty()
        });
        let parsed = kind_and_name.zip(Pattern::parse(subject));
        let what = "a subject; expected user:NAME, certificate:NAME, token:ISSUER:NAME, \
             group:NAME, everyone, anonymous or authenticated";
        let ((kind, name), pattern) = parsed.ok_or_else(|| is_not(text, what))?;
        let issuer = name.split(':').next().unwrap_or(name);
        let mut issuers = self.issuers.iter();
        // It would match nothing, without a word.
        if kind == "token" && !issuer.contains('*') && !issuers.any(|known| known.name == issuer) {
            let what = format!("there is no issuer {issuer:?} in [[issuers]]");
            return Err((text.span(), what));
        }
        Ok(pattern)
    }

    /// Whether this identity may do this in this repository, and by which rule.
    #[must_use]
    pub fn decide(&self, identity: &Identity, name: &RepositoryName, action: Action) -> Decision {
        let rule = self.rule(identity, name, action);
        rule.map_or(Decision::Denied, |rule| {
            Decision::Allowed(rule.origin.clone())
        })
    }

    pub(super) fn allows(
        &self,
        identity: &Identity,
        name: &RepositoryName,
        action: Action,
    ) -> bool {
        self.rule(identity, name, action).is_some()
    }

    /// The first rule that allows it.
    fn rule(&self, identity: &Identity, name: &RepositoryName, action: Action) -> Option<&Rule> {
        let is_of = |rule: &Rule| {
            let mut names = rule.repositories.iter();
            let mut subjects = rule.subjects.iter();
            rule.actions.contains(&action)
                && names.any(|pattern| pattern.matches(name.as_str()))
                && subjects.any(|subjects| self.has(subjects, identity))
        };
        self.rules.iter().find(|rule| is_of(rule))
    }

    fn has(&self, subjects: &Subjects, identity: &Identity) -> bool {
        let subject = &identity.subject;
        match subjects {
            Subjects::Everyone => true,
            Subjects::Anonymous => subject.is_anonymous(),
            Subjects::Authenticated => !subject.is_anonymous(),
            Subjects::Named(pattern) => pattern.matches(subject.as_str()),
            Subjects::Group(group) => {
                let members = self.groups.get(group).map_or(&[][..], Vec::as_slice);
                identity.groups.contains(group)
                    || members
                        .iter()
                        .any(|pattern| pattern.matches(subject.as_str()))
            }
        }
    }

    /// Whether clients without credentials may do anything.
    pub(super) fn knows_anonymous(&self) -> bool {
        let anonymous = Identity::of(Subject::anonymous());
        let mut subjects = self.rules.iter().flat_map(|rule| &rule.subjects);
        subjects.any(|subjects| self.has(subjects, &anonymous))
    }
}

fn repositories(text: &Spanned<String>) -> Result<Pattern, Wrong> {
    let what = "a pattern of repository names; expected lower-case letters, digits, '.', '_', \
         '-' and '/', with * within a component and ** across components";
    Pattern::of_names(text.get_ref()).ok_or_else(|| is_not(text, what))
}

fn actions(text: &Spanned<String>) -> Result<Vec<Action>, Wrong> {
    let is_named = |action: &Action| ["*", action.as_str()].contains(&text.get_ref().as_str());
    let actions: Vec<_> = Action::ALL.into_iter().filter(is_named).collect();
    if actions.is_empty() {
        let what = "an action; expected pull, push, delete or *";
        return Err(is_not(text, what));
    }
    Ok(actions)
}

/// Counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
[groups]
developers = ["user:alice", "user:b*"]

[[rules]]
subjects = ["everyone"]
repositories = ["library/*"]
actions = ["pull"]

[[rules]]
subjects = ["group:developers"]
repositories = ["team/**"]
actions = ["pull", "push"]

[[rules]]
subjects = ["user:root"]
repositories = ["**"]
actions = ["*"]
"#;

    #[test]
    fn decisions_name_their_rule() {
        let policy = Policy::parse(POLICY, "p").unwrap();
        let allowed = |line: usize| Decision::Allowed(format!("p:{line}"));
        for (subject, name, action, want) in [
            ("anonymous", "library/alpine", Action::Pull, allowed(5)),
            ("anonymous", "library/a/b", Action::Pull, Decision::Denied),
            (
                "anonymous",
                "library/alpine",
                Action::Push,
                Decision::Denied,
            ),
            ("user:alice", "team/a/b", Action::Push, allowed(10)),
            ("user:bob", "team/a", Action::Push, allowed(10)),
            ("user:alice", "team/a", Action::Delete, Decision::Denied),
            ("user:alice", "team", Action::Pull, Decision::Denied),
            ("user:carol", "team/a", Action::Pull, Decision::Denied),
            (
                "certificate:alice",
                "team/a",
                Action::Pull,
                Decision::Denied,
            ),
            ("user:root", "team/a", Action::Delete, allowed(15)),
        ] {
            let identity = Identity::of(Subject::new(subject));
            let got = policy.decide(&identity, &name.parse().unwrap(), action);
            assert_eq!(got, want, "{subject} {name} {action:?}");
        }
        assert!(policy.knows_anonymous());
        let member = Identity {
            subject: Subject::new("token:ci:x"),
            groups: vec!["developers".to_owned()],
        };
        let name = "team/a".parse().unwrap();
        assert_eq!(policy.decide(&member, &name, Action::Push), allowed(10));
        let empty = Policy::parse("", "p").unwrap();
        assert!(!empty.knows_anonymous());
        assert_eq!(empty.decide(&member, &name, Action::Pull), Decision::Denied);
    }

    #[test]
    fn errors_name_file_and_line() {
        let rule = |subject: &str, repository: &str, action: &str| {
            format!(
                "\n[[rules]]\nsubjects = [{subject:?}]\nrepositories = [{repository:?}]\nactions = [{action:?}]\n"
            )
        };
        let issuer = |name: &str, url: &str| {
            format!(
                "\n[[issuers]]\nname = {name:?}\nkind = \"oidc\"\nissuer = {url:?}\naudience = \"x\"\n"
            )
        };
        for (text, line, word) in [
            (rule("alice", "a", "pull"), 3, "\"alice\" is not a subject"),
            (rule("user:", "a", "pull"), 3, "is not a subject"),
            (rule("*", "a", "pull"), 3, "is not a subject"),
            (rule("group:x", "a", "pull"), 3, "there is no group \"x\""),
            (
                rule("everyone", "A/b", "pull"),
                4,
                "\"A/b\" is not a pattern",
            ),
            (rule("everyone", "", "pull"), 4, "\"\" is not a pattern"),
            (rule("everyone", "a/***", "pull"), 4, "is not a pattern"),
            (rule("everyone", "a//b", "pull"), 4, "is not a pattern"),
            (
                rule("token:ci:x", "a", "pull"),
                3,
                "there is no issuer \"ci\"",
            ),
            (
                issuer("a", "https://a") + &issuer("a", "https://b"),
                8,
                "the issuer a has the name",
            ),
            (
                issuer("a", "https://a") + &issuer("b", "https://a"),
                8,
                "the issuer b has the name or the URL of another one, a",
            ),
            (
                rule("everyone", "a", "write"),
                5,
                "\"write\" is not an action",
            ),
            (
                rule("everyone", "a", "pull") + "deny = true\n",
                6,
                "unknown field `deny`",
            ),
            ("[[rule]]\n".to_owned(), 1, "unknown field `rule`"),
            ("[[rules]]\nsubjects = []\n".to_owned(), 1, "missing field"),
            ("\n\nx = [\n".to_owned(), 3, ""),
            (
                "[groups]\nx = [\"group:y\"]\n".to_owned(),
                2,
                "is not a subject",
            ),
        ] {
            let error = Policy::parse(&text, "p").unwrap_err();
            assert!(error.what.contains(word), "{text}: {error}");
            assert_eq!(error.line, line, "{text}: {error}");
        }
    }
}
