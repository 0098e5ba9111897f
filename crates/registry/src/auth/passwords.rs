//! Verification of passwords: what bcrypt costs is bounded.
//!
//! 1. A password that was right, and was used within the last hour, is recognized by a keyed hash: wrong passwords from
//!    many addresses delay no user who is active. The hash includes the generation of the file of users, so a reload
//!    forgets all.
//! 2. Each address has a few attempts. A right password gives its attempt back, a wrong one is given
//!    back by time. An address without attempts is answered before bcrypt runs.
//! 3. bcrypt runs on the blocking pool, on half of the processors at most, and not more than an address
//!    has attempts. After a wrong password its processor rests, so that wrong ones from many addresses take
//!    a sixteenth of the machine. An attempt is taken when bcrypt begins, so requests that wait hold none,
//!    and right passwords that come at once from one address do not exhaust it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::hmac::{self, Key};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::htpasswd::Users;
use crate::locks::lock;
use crate::proxies::network;

/// How long a right password is remembered after its last use.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// So many passwords, or addresses.
const ENTRIES: usize = 10_000;
/// bcrypt reads no more of a password: what follows would not count.
const LONGEST_PASSWORD: usize = 72;
/// How many attempts an address has, and how long one takes to come back.
const ATTEMPTS: u32 = 10;
const ATTEMPT_RETURNS: Duration = Duration::from_secs(6);
/// How long an attempt waits for a processor.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long bcrypt rests after a wrong password, as a multiple of the time that this took.
const REST: u32 = 7;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Too many attempts; the seconds until another one.
    Busy(u32),
}

/// Verifies passwords.
pub(super) struct Passwords {
    key: Key,
    history: Arc<History>,
    processors: Arc<Semaphore>,
}

/// What is known of the last minutes.
#[derive(Default)]
struct History {
    right: Mutex<HashMap<[u8; 32], Instant>>,
    /// When an address has all of its attempts again.
    attempts: Mutex<HashMap<IpAddr, Instant>>,
}

/// Whether an address has an attempt now, if it has all of them again at `all_again`.
fn is_left(all_again: Instant) -> bool {
    let wait = all_again.saturating_duration_since(Instant::now());
    wait <= ATTEMPT_RETURNS * (ATTEMPTS - 1)
}

impl Passwords {
    pub(super) fn new(key: Key) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        Passwords {
            key,
            history: Arc::default(),
            processors: Arc::new(Semaphore::new((processors / 2).clamp(1, ATTEMPTS as usize))),
        }
    }

    /// Whether this is the password of this user. `generation` is that of `users`.
    pub(super) async fn verify(
        &self,
        users: &Users,
        generation: u64,
        (user, password): (&str, &str),
        address: Option<IpAddr>,
    ) -> Verdict {
        // It is never right, and what it costs says nothing of the user.
        if password.len() > LONGEST_PASSWORD {
            return Verdict::Wrong;
        }
        let tag = self.tag(generation, user, password);
        if self.history.is_right(&tag) {
            return Verdict::Right;
        }
        let network = network(address.unwrap_or(Ipv6Addr::UNSPECIFIED.into()));
        let exhausted = Verdict::Busy(ATTEMPT_RETURNS.as_secs() as u32);
        if !self.history.has_attempt(network) {
            return exhausted;
        }
        let acquired = timeout(PATIENCE, Arc::clone(&self.processors).acquire_owned()).await;
        let Ok(Ok(processor)) = acquired else {
            return Verdict::Busy(PATIENCE.as_secs() as u32);
        };
        // Another request may have verified the same password, or have used the last attempt.
        if self.history.is_right(&tag) {
            return Verdict::Right;
        }
        if !self.history.take_attempt(network) {
            return exhausted;
        }
        let (comparison, password) = (users.comparison(user), password.to_owned());
        let history = Arc::clone(&self.history);
        // It ends although the client disconnects.
        let verified = tokio::task::spawn_blocking(move || {
            #[expect(
                clippy::disallowed_methods,
                reason = "the clock of tests stands still meanwhile"
            )]
            let begun = std::time::Instant::now();
            let is_right = comparison.is_right(&password);
            if is_right {
                history.return_attempt(network);
                history.remember(tag);
            } else {
                let rest = begun.elapsed() * REST;
                tokio::spawn(async move {
                    sleep(rest).await;
                    drop(processor);
                });
            }
            is_right
        });
        if verified.await.unwrap_or(false) {
            Verdict::Right
        } else {
            Verdict::Wrong
        }
    }

    fn tag(&self, generation: u64, user: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&generation.to_be_bytes());
        context.update(&(user.len() as u64).to_be_bytes());
        context.update(user.as_bytes());
        context.update(password.as_bytes());
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

impl History {
    fn is_right(&self, tag: &[u8; 32]) -> bool {
        let mut right = lock(&self.right);
        let used_at = right.get_mut(tag);
        let Some(used_at) = used_at.filter(|used_at| used_at.elapsed() < REMEMBERED) else {
            return false;
        };
        *used_at = Instant::now();
        true
    }

    fn remember(&self, tag: [u8; 32]) {
        let mut right = lock(&self.right);
        if right.len() >= ENTRIES {
            right.retain(|_, used_at| used_at.elapsed() < REMEMBERED);
        }
        if right.len() < ENTRIES {
            right.insert(tag, Instant::now());
        }
    }

    fn has_attempt(&self, network: IpAddr) -> bool {
        let attempts = lock(&self.attempts);
        attempts.get(&network).is_none_or(|again| is_left(*again))
    }

    fn take_attempt(&self, network: IpAddr) -> bool {
        let now = Instant::now();
        let mut attempts = lock(&self.attempts);
        if attempts.len() >= ENTRIES {
            attempts.retain(|_, again| *again > now);
        }
        if attempts.len() >= ENTRIES && !attempts.contains_key(&network) {
            return false;
        }
        let again = attempts.entry(network).or_insert(now);
        if !is_left(*again) {
            return false;
        }
        *again = now.max(*again) + ATTEMPT_RETURNS;
        true
    }

    fn return_attempt(&self, network: IpAddr) {
        if let Some(again) = lock(&self.attempts).get_mut(&network) {
            *again = again.checked_sub(ATTEMPT_RETURNS).unwrap_or(*again);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use ring::hmac::HMAC_SHA256;

    fn users() -> Users {
        let hash = bcrypt::hash_with_salt("right", 4, [7; 16]).unwrap();
        let hash = hash.format_for_version(bcrypt::Version::TwoY);
        Users::parse(&format!("alice:{hash}"), "f").unwrap()
    }

    fn passwords() -> Passwords {
        Passwords::new(Key::new(HMAC_SHA256, &[1; 32]))
    }

    /// Wrong ones from a few addresses are enough for that.
    #[tokio::test(start_paused = true)]
    async fn password_in_use_needs_no_processor() {
        let (passwords, users) = (passwords(), users());
        let login = || passwords.verify(&users, 1, ("alice", "right"), None);
        assert_eq!(login().await, Verdict::Right);
        let all = Arc::clone(&passwords.processors);
        let count = u32::try_from(all.available_permits()).unwrap();
        let _taken = all.acquire_many_owned(count).await.unwrap();
        for _ in 0..3 {
            tokio::time::advance(REMEMBERED - Duration::from_secs(1)).await;
            assert_eq!(login().await, Verdict::Right);
        }
        tokio::time::advance(REMEMBERED).await;
        assert!(matches!(login().await, Verdict::Busy(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_of_an_address_are_limited() {
        let (passwords, users) = (passwords(), users());
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        let attempt = async |user, password, last| {
            passwords
                .verify(&users, 1, (user, password), address(last))
                .await
        };
        for _ in 0..ATTEMPTS {
            assert_eq!(attempt("alice", "wrong", 1).await, Verdict::Wrong);
        }
        assert_eq!(attempt("bob", "right", 1).await, Verdict::Busy(6));
        assert_eq!(attempt("bob", "right", 2).await, Verdict::Wrong);
        // A right one costs no attempt, and is remembered.
        for _ in 0..3 * ATTEMPTS {
            assert_eq!(attempt("alice", "right", 2).await, Verdict::Right);
        }
        assert_eq!(attempt("alice", "right", 1).await, Verdict::Right);
        tokio::time::advance(ATTEMPT_RETURNS).await;
        assert_eq!(attempt("alice", "wrong", 1).await, Verdict::Wrong);
        assert_eq!(attempt("alice", "wrong", 1).await, Verdict::Busy(6));
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_take_few_processors() {
        let (passwords, users) = (passwords(), users());
        let attempt = async |password, last| {
            let address = Some(IpAddr::from([192, 0, 2, last]));
            passwords
                .verify(&users, 1, ("alice", password), address)
                .await
        };
        // Time passes in a rest alone.
        let begun = Instant::now();
        for address in 1..=passwords.processors.available_permits() as u8 {
            assert_eq!(attempt("wrong", address).await, Verdict::Wrong);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(attempt("right", 0).await, Verdict::Right);
        assert_ne!(begun.elapsed(), Duration::ZERO);
        // None after a right one, and none for one that is remembered.
        let begun = Instant::now();
        assert_eq!(attempt("wrong", 0).await, Verdict::Wrong);
        assert_eq!(attempt("right", 0).await, Verdict::Right);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn new_generation_forgets_passwords() {
        let (passwords, users) = (passwords(), users());
        let right = ("alice", "right");
        assert_eq!(
            passwords.verify(&users, 1, right, None).await,
            Verdict::Right
        );
        let nobody = Users::default();
        assert_eq!(
            passwords.verify(&nobody, 1, right, None).await,
            Verdict::Right
        );
        assert_eq!(
            passwords.verify(&nobody, 2, right, None).await,
            Verdict::Wrong
        );
        let long = format!("right{}", "x".repeat(72));
        assert_eq!(
            passwords.verify(&users, 1, ("alice", &long), None).await,
            Verdict::Wrong
        );
    }

    /// Users whose password is their number.
    fn many_users(count: u32) -> Users {
        let lines = (0..count).map(|number| {
            let hash = bcrypt::hash_with_salt(number.to_string(), 4, [7; 16]).unwrap();
            let hash = hash.format_for_version(bcrypt::Version::TwoY);
            format!("{number}:{hash}\n")
        });
        Users::parse(&lines.collect::<String>(), "f").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn right_passwords_at_once_from_one_address_are_right() {
        let (passwords, users) = (passwords(), many_users(3 * ATTEMPTS));
        // Of one user, and of many.
        for repeated in [true, false] {
            let verdicts = join_all((0..3 * ATTEMPTS).map(async |number| {
                let user = if repeated { 0 } else { number }.to_string();
                let pair = (user.as_str(), user.as_str());
                passwords.verify(&users, 1, pair, None).await
            }));
            let want = vec![Verdict::Right; 3 * ATTEMPTS as usize];
            assert_eq!(verdicts.await, want, "{repeated}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn right_password_of_a_client_that_disconnects_costs_no_attempt() {
        let (passwords, users) = (passwords(), many_users(3 * ATTEMPTS));
        for number in 0..3 * ATTEMPTS {
            let user = number.to_string();
            let verified = passwords.verify(&users, 1, (&user, &user), None);
            // It may be verified before it is asked for the first time.
            assert_ne!(verified.now_or_never(), Some(Verdict::Wrong));
        }
        for _ in 0..ATTEMPTS {
            let verified = passwords.verify(&users, 1, ("0", "wrong"), None);
            assert_eq!(verified.await, Verdict::Wrong);
        }
    }
}
