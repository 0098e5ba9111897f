//! Who receives bytes for which upload in this process, so that whoever asks next hears of every
//! byte that arrived.
//!
//! A client whose connection broke asks at once where its upload is. Its bytes may still lie
//! between the socket and the storage then. So the question is passed to the writer, which takes
//! what has come, stores it, and tells. Another process cannot ask it; there the answer is what is
//! stored, which is never more than arrived.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::slots::Slot;

/// How long to wait for a writer to store what it has. A storage that takes longer is asked what it
/// has, as any other process would.
const PATIENCE: Duration = Duration::from_secs(15);

/// The writers of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Writers(Arc<Mutex<HashMap<Uuid, Vec<Known>>>>);

/// A writer, as others see it.
#[derive(Clone, Debug)]
struct Known {
    asked: Arc<watch::Sender<Question>>,
    told: watch::Receiver<u64>,
}

/// What is asked of a writer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Question {
    /// Each one is one more.
    pub(super) number: u64,
    /// Somebody else goes on, so this writer shall end.
    pub(super) ends: bool,
}

/// A writer, as it sees itself. Dropped, it has told all.
#[derive(Debug)]
pub(super) struct Writing {
    uuid: Uuid,
    writers: Writers,
    asked: watch::Receiver<Question>,
    known_as: Arc<watch::Sender<Question>>,
    told: watch::Sender<u64>,
}

impl Writers {
    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<Known>>> {
        // No step under the lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more writer of this upload.
    pub(super) fn begin(&self, uuid: Uuid) -> Writing {
        let known_as = Arc::new(watch::Sender::new(Question::default()));
        let told = watch::Sender::new(0);
        self.all().entry(uuid).or_default().push(Known {
            asked: known_as.clone(),
            told: told.subscribe(),
        });
        Writing {
            uuid,
            writers: self.clone(),
            asked: known_as.subscribe(),
            known_as,
            told,
        }
    }

    /// Waits until the writers of this upload have stored what has come to them; where the caller
    /// is going to write (`takes_over`), until they have ended. They need a place for that, so the
    /// caller's is given back meanwhile.
    pub(super) async fn settle(&self, uuid: Uuid, takes_over: bool, slot: &mut Slot) {
        let known = self.all().get(&uuid).cloned().unwrap_or_default();
        if known.is_empty() {
            return;
        }
        slot.give_back();
        for mut known in known {
            let mut number = 0;
            known.asked.send_modify(|question| {
                question.number += 1;
                question.ends |= takes_over;
                number = question.number;
            });
            let settled = known.told.wait_for(|&told| told >= number && !takes_over);
            // An error says that it has ended; too late is as good as can be.
            let _ = timeout(PATIENCE, settled).await;
        }
        slot.take_again().await;
    }
}

impl Writing {
    /// A question that was not answered yet.
    pub(super) fn question(&self) -> Option<Question> {
        let question = *self.asked.borrow();
        (question.number > *self.told.borrow()).then_some(question)
    }

    /// Resolves when there is such a question.
    pub(super) async fn is_asked(&mut self) {
        let told = *self.told.borrow();
        let asked = self.asked.wait_for(|question| question.number > told);
        if asked.await.is_err() {
            // The sender lives as long as this.
            std::future::pending::<()>().await;
        }
    }

    /// All that came before this question is stored.
    pub(super) fn tell(&self, question: Question) {
        self.told.send_replace(question.number);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut all = self.writers.all();
        if let Some(known) = all.get_mut(&self.uuid) {
            known.retain(|known| !Arc::ptr_eq(&known.asked, &self.known_as));
            if known.is_empty() {
                all.remove(&self.uuid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::slots::Slots;

    #[tokio::test(start_paused = true)]
    async fn a_question_waits_for_its_answer_or_the_end() {
        let writers = Writers::default();
        let uuid = Uuid::nil();
        let slots = Slots::new(1);
        let mut slot = slots.take(PATIENCE).await.unwrap();
        writers.settle(uuid, false, &mut slot).await;
        drop(slot);

        let mut writing = writers.begin(uuid);
        assert!(writing.question().is_none());
        let asking = tokio::spawn({
            let writers = writers.clone();
            let mut slot = slots.take(PATIENCE).await.unwrap();
            async move { writers.settle(uuid, false, &mut slot).await }
        });
        writing.is_asked().await;
        // To answer takes a place.
        drop(slots.take(PATIENCE).await.unwrap());
        let question = writing.question().unwrap();
        assert!(!question.ends && !asking.is_finished());
        writing.tell(question);
        asking.await.unwrap();
        assert!(writing.question().is_none());

        let asking = tokio::spawn({
            let writers = writers.clone();
            let mut slot = slots.take(PATIENCE).await.unwrap();
            async move { writers.settle(uuid, true, &mut slot).await }
        });
        writing.is_asked().await;
        let question = writing.question().unwrap();
        assert!(question.ends);
        // Who takes over waits for the end.
        writing.tell(question);
        tokio::task::yield_now().await;
        assert!(!asking.is_finished());
        drop(writing);
        asking.await.unwrap();
        assert!(writers.all().is_empty());
    }
}
