//! Conditional writes: one after the other, and several at once.

use super::ask::Ask;
use super::question::{Question, Topic};
use crate::s3::probe::{self, Race, Rounds};

/// Enough to find a store that loses one race in three.
const ROUNDS: Rounds = Rounds {
    rounds: 20,
    writers: 4,
};

/// Asks in the order of the questions, as far as each one holds.
pub(super) async fn conditional_writes(ask: &mut Ask<'_>) {
    in_order(ask).await;
    let questions = Question::ALL.iter().copied();
    let all: Vec<_> = questions
        .filter(|question| question.topic() == Topic::ConditionalWrites)
        .collect();
    ask.leave_out(&all);
}

async fn in_order(ask: &mut Ask<'_>) {
    let (key, absent) = (ask.key("conditions"), ask.key("absent"));
    let found = match probe::conditions(&ask.api, &key, &absent).await {
        Ok(found) => found,
        Err(error) => return ask.fail(&[Question::CreateTaken], error),
    };
    let holds = found.all_hold();
    ask.api = ask.api.with_conditions(found.form);
    for (question, told) in [
        (Question::CreateTaken, found.creates),
        (Question::CreateRefused, found.refuses_present),
        (Question::ReplaceTaken, found.replaces),
        (Question::StaleRefused, found.refuses_stale),
        (Question::AbsentRefused, found.refuses_absent),
    ] {
        if let Some(told) = told {
            ask.tell_whether(question, told);
        }
    }
    if !holds {
        return;
    }
    for (question, race, name) in [
        (Question::CreateRace, Race::Create, "create-race"),
        (Question::ReplaceRace, Race::Replace, "replace-race"),
    ] {
        let key = |round| ask.key(&format!("{name}-{round}"));
        let raced = probe::race(&ask.api, key, race, ROUNDS).await;
        ask.end(question, raced);
        if !ask.holds(question) {
            return;
        }
    }
}
