//! The file of `htpasswd -B`: users and the bcrypt hashes of their passwords. Pure.

use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;

use bcrypt::HashParts;

/// Of a hash that `htpasswd -B` or another program writes, where there is none to take it from.
const USUAL_COST: u32 = 10;

/// Users and the hashes of their passwords.
#[derive(Clone, Default)]
pub struct Users {
    hashes: HashMap<String, Hash>,
    /// The highest cost of a hash.
    highest: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hash {
    text: String,
    cost: u32,
}

impl Hash {
    /// A hash of no known password.
    fn decoy(cost: u32) -> Self {
        let text = format!("$2b${cost:02}$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui");
        Hash { text, cost }
    }

    fn is_of(&self, password: &str) -> bool {
        bcrypt::verify(password, &self.text).unwrap_or(false)
    }
}

/// What a password is compared with. A wrong one takes as long for every user of a file, and for an
/// unknown one: bcrypt takes 2^cost rounds, and the costs of user and decoys make 2^highest together.
pub(super) struct Comparison {
    own: Option<Hash>,
    decoys: Vec<Hash>,
}

impl Comparison {
    /// Whether the password is that of the user. It takes up to seconds of CPU time.
    pub(super) fn is_right(&self, password: &str) -> bool {
        if self.own.as_ref().is_some_and(|own| own.is_of(password)) {
            return true;
        }
        for decoy in &self.decoys {
            black_box(decoy.is_of(password));
        }
        false
    }
}

/// What is wrong with a file of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct InvalidUsers {
    file: String,
    line: usize,
    what: String,
}

impl Users {
    /// Reads the text of a file, whose name errors have.
    ///
    /// # Errors
    ///
    /// What is wrong and in which line. It does not repeat the hash.
    pub fn parse(text: &str, file: &str) -> Result<Self, InvalidUsers> {
        let mut users = Users::default();
        for (number, line) in text.lines().enumerate() {
            let invalid = |what: String| InvalidUsers {
                file: file.to_owned(),
                line: number + 1,
                what,
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line.split_once(':').ok_or_else(|| {
                invalid("expected USER:HASH, as `htpasswd -B` writes it".to_owned())
            })?;
            let parts: HashParts = hash.parse().map_err(|_| {
                let what = format!("the hash of {user} is not bcrypt; make it with `htpasswd -B`");
                invalid(what)
            })?;
            if user.is_empty() {
                return Err(invalid("the name of the user is empty".to_owned()));
            }
            let cost = parts.get_cost();
            if cost > 16 {
                let what = format!("the hash of {user} has cost {cost}, expected at most 16");
                return Err(invalid(what));
            }
            users.highest = users.highest.max(cost);
            let text = hash.to_owned();
            let before = users.hashes.insert(user.to_owned(), Hash { text, cost });
            if before.is_some() {
                return Err(invalid(format!("{user} occurs twice")));
            }
        }
        if users.is_empty() {
            users.highest = USUAL_COST;
        }
        Ok(users)
    }

    /// The hash of the password of a user.
    pub(super) fn hash(&self, user: &str) -> Option<&str> {
        self.hashes.get(user).map(|hash| hash.text.as_str())
    }

    /// What the password of this user is compared with.
    pub(super) fn comparison(&self, user: &str) -> Comparison {
        let own = self.hashes.get(user).cloned();
        // 2^n + (2^n + … + 2^(highest - 1)) = 2^highest
        let decoys = match &own {
            Some(own) => (own.cost..self.highest).map(Hash::decoy).collect(),
            None => vec![Hash::decoy(self.highest)],
        };
        Comparison { own, decoys }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("count", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui";

    #[test]
    fn file_cases() {
        let plain = "plaintext";
        for (text, want) in [
            ("", Ok(0)),
            ("# users\n\n", Ok(0)),
            (&format!("a:{HASH}\nb:{HASH}\n"), Ok(2)),
            (&format!("a:{HASH}\na:{HASH}"), Err("f:2: a occurs twice")),
            (
                &format!("x\na:{HASH}"),
                Err("f:1: expected USER:HASH, as `htpasswd -B` writes it"),
            ),
            (
                &format!("\nb:{plain}"),
                Err("f:2: the hash of b is not bcrypt; make it with `htpasswd -B`"),
            ),
            (
                "b:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
                Err("f:1: the hash of b is not bcrypt; make it with `htpasswd -B`"),
            ),
            (
                &format!(":{HASH}"),
                Err("f:1: the name of the user is empty"),
            ),
            (
                &HASH.replace("$05", "$31").replacen("$2y", "a:$2y", 1),
                Err("f:1: the hash of a has cost 31, expected at most 16"),
            ),
        ] {
            let got = Users::parse(text, "f").map(|users| users.len());
            let got = got.map_err(|error| error.to_string());
            assert_eq!(got, want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn wrong_password_costs_as_much_for_every_user() {
        let cost = |cost: u32| HASH.replace("$05", &format!("${cost:02}"));
        let text = format!("a:{HASH}\nb:{}\nc:{}", cost(9), cost(12));
        let users = Users::parse(&text, "f").unwrap();
        for (user, own) in [("a", Some(5)), ("b", Some(9)), ("c", Some(12)), ("d", None)] {
            let comparison = users.comparison(user);
            assert_eq!(comparison.own.as_ref().map(|own| own.cost), own);
            let hashes = comparison.own.iter().chain(&comparison.decoys);
            // As the texts say it.
            let costs = hashes.map(|hash| hash.text.parse::<HashParts>().unwrap().get_cost());
            assert_eq!(costs.map(|cost| 1 << cost).sum::<u32>(), 1 << 12, "{user}");
        }
        assert!(users.hash("a").is_some() && users.hash("d").is_none());
        assert!(!Hash::decoy(5).is_of("x"));
    }

    #[test]
    fn only_the_own_password_is_right() {
        let hash = |password, cost| {
            let hash = bcrypt::hash_with_salt(password, cost, [7; 16]).unwrap();
            hash.format_for_version(bcrypt::Version::TwoY)
        };
        let text = format!("a:{}\nb:{}", hash("one", 4), hash("two", 6));
        let users = Users::parse(&text, "f").unwrap();
        for (user, password, want) in [
            ("a", "one", true),
            ("a", "two", false),
            ("b", "two", true),
            ("b", "one", false),
            ("c", "one", false),
        ] {
            let is_right = users.comparison(user).is_right(password);
            assert_eq!(is_right, want, "{user} {password}");
        }
    }
}
