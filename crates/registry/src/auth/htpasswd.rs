//! The file of `htpasswd -B`: users and the bcrypt hashes of their passwords. Pure.

use std::collections::HashMap;
use std::fmt;

use bcrypt::HashParts;

/// Users and the hashes of their passwords.
#[derive(Clone, Default)]
pub struct Users {
    hashes: HashMap<String, String>,
    /// What the password of an unknown user is compared with: it costs as much as any other.
    decoy: String,
}

/// What is wrong with a file of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct InvalidUsers {
    file: String,
    line: usize,
    what: String,
}

/// A hash of no known password, of this cost.
fn decoy(cost: u32) -> String {
    format!("$2b${cost:02}$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui")
}

impl Users {
    /// Reads the text of a file, whose name errors have.
    ///
    /// # Errors
    ///
    /// What is wrong and in which line. It does not repeat the hash.
    pub fn parse(text: &str, file: &str) -> Result<Self, InvalidUsers> {
        let mut users = Users::default();
        let mut highest = 0;
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
            if parts.get_cost() > 16 {
                let what = format!(
                    "the hash of {user} has cost {}, expected at most 16",
                    parts.get_cost()
                );
                return Err(invalid(what));
            }
            highest = highest.max(parts.get_cost());
            if users
                .hashes
                .insert(user.to_owned(), hash.to_owned())
                .is_some()
            {
                return Err(invalid(format!("{user} occurs twice")));
            }
        }
        // Without users the usual cost.
        users.decoy = decoy(if highest == 0 { 10 } else { highest });
        Ok(users)
    }

    /// The hash to compare with, and whether it is that of a user.
    pub(super) fn hash(&self, user: &str) -> (&str, bool) {
        match self.hashes.get(user) {
            Some(hash) => (hash, true),
            None => (&self.decoy, false),
        }
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
    fn unknown_user_costs_as_much_as_the_most_expensive_one() {
        let expensive = HASH.replace("$05", "$12");
        let users = Users::parse(&format!("a:{HASH}\nb:{expensive}"), "f").unwrap();
        let (hash, is_known) = users.hash("unknown");
        let parts: HashParts = hash.parse().unwrap();
        assert_eq!((parts.get_cost(), is_known), (12, false));
        assert_eq!(users.hash("a"), (HASH, true));
        assert!(!bcrypt::verify("x", &decoy(5)).unwrap());
    }
}
