//! Scopes of Docker's token protocol: what a client asks for, and what a token grants. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Access, Action};
use s3layers::RepositoryName;

/// So many scopes of a request count; clients ask for two.
const MOST_SCOPES: usize = 100;

/// One entry of the claim `access`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) actions: Vec<String>,
}

/// What a token grants, or a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes {
    repositories: BTreeMap<RepositoryName, BTreeSet<Action>>,
    catalog: bool,
}

impl Scopes {
    /// Of scopes that are separated by spaces, which a form writes as `+`. What is of no known type
    /// grants nothing, and neither does what comes after [`MOST_SCOPES`].
    pub(super) fn parse<'a>(scopes: impl Iterator<Item = &'a str>) -> Self {
        let entries = scopes
            .flat_map(|scopes| scopes.split([' ', '+']))
            .take(MOST_SCOPES)
            .filter_map(|scope| {
                // The name may have a colon, before a port.
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                Some(Entry {
                    kind: kind.to_owned(),
                    name: name.to_owned(),
                    actions: actions.split(',').map(str::to_owned).collect(),
                })
            });
        Scopes::of(entries)
    }

    /// The union of these entries, per repository.
    pub(super) fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut scopes = Scopes::default();
        for entry in entries {
            let has = |action: &str| entry.actions.iter().any(|have| have == action);
            let has_all = has("*");
            match (entry.kind.as_str(), entry.name.parse()) {
                ("registry", _) if entry.name == "catalog" => scopes.catalog |= has_all,
                ("repository", Ok(name)) => {
                    let actions = Action::ALL.into_iter();
                    let actions = actions.filter(|action| has_all || has(action.as_str()));
                    scopes.repositories.entry(name).or_default().extend(actions);
                }
                _ => {}
            }
        }
        scopes
    }

    /// The part that `may` allows.
    pub(super) fn retain(mut self, may: impl Fn(&RepositoryName, Action) -> bool) -> Self {
        for (name, actions) in &mut self.repositories {
            actions.retain(|action| may(name, *action));
        }
        self.repositories.retain(|_, actions| !actions.is_empty());
        self
    }

    /// As a token has it.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let repositories = self.repositories.iter().map(|(name, actions)| Entry {
            kind: "repository".to_owned(),
            name: name.to_string(),
            actions: actions
                .iter()
                .map(|action| action.as_str().to_owned())
                .collect(),
        });
        let catalog = self.catalog.then(|| Entry {
            kind: "registry".to_owned(),
            name: "catalog".to_owned(),
            actions: vec!["*".to_owned()],
        });
        repositories.chain(catalog).collect()
    }

    pub(super) fn covers(&self, access: &Access) -> bool {
        if self.catalog && matches!(access, Access::List(_)) {
            return true;
        }
        let Some((name, action)) = access.in_repository() else {
            return true;
        };
        let actions = self.repositories.get(name);
        actions.is_some_and(|actions| actions.contains(&action))
    }
}

/// The scope that a challenge names for a request. A client that pushes also reads.
pub(super) fn asked_for(access: &Access) -> Option<String> {
    match access {
        Access::Identity => None,
        Access::Catalog => Some("registry:catalog:*".to_owned()),
        Access::List(name) | Access::Pull(name) => Some(format!("repository:{name}:pull")),
        Access::Push(name) | Access::Continue(name, _) => {
            Some(format!("repository:{name}:pull,push"))
        }
        Access::Delete(name) => Some(format!("repository:{name}:delete")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_cases() {
        let name: RepositoryName = "a/b".parse().unwrap();
        let (pull, push) = (Access::Pull(name.clone()), Access::Push(name.clone()));
        let delete = Access::Delete(name.clone());
        let list = Access::List(name);
        for (scope, want) in [
            ("repository:a/b:pull", [true, false, false, true]),
            ("repository:a/b:pull,push", [true, true, false, true]),
            (
                "repository:a/b:push+repository:a/b:pull",
                [true, true, false, true],
            ),
            ("repository:a/b:*", [true, true, true, true]),
            ("repository:a/c:*", [false; 4]),
            ("repository:A/b:*", [false; 4]),
            ("repository:host:5000/a/b:pull", [false; 4]),
            ("repository(plugin):a/b:pull", [false; 4]),
            ("registry:catalog:*", [false, false, false, true]),
            ("registry:catalog:pull", [false; 4]),
            ("", [false; 4]),
            ("a/b:pull", [false; 4]),
        ] {
            let scopes = Scopes::parse([scope].into_iter());
            let got = [&pull, &push, &delete, &list].map(|access| scopes.covers(access));
            assert_eq!(got, want, "{scope}");
            assert_eq!(Scopes::of(scopes.entries()), scopes, "{scope}");
        }
        let many = (0..1000).map(|n| format!("repository:a{n}:pull"));
        let many = many.collect::<Vec<_>>().join(" ");
        let granted = Scopes::parse([&*many].into_iter()).entries();
        assert_eq!(granted.len(), MOST_SCOPES);
    }
}
