//! `doctor`: what the store can do, what that means for our promises, and what to change.

use clap::Args;

use self::report::{Asked, Event};
use super::Context;
use super::failure::Failure;
use super::place::Absent;
use super::stop::Stop;
use s3layers::doctor::{Examination, Weight, examine};

mod report;

/// Check what the store can do
///
/// Tries each thing that a push, a pull or a sweep relies on: conditional writes with racing
/// writers, lists, checksums, parts, permissions one by one, the clock, lifecycle rules. Writes
/// below probe/ only, some 10 MiB, and removes it again. Then stores what was found in the bucket,
/// where every later command goes by it; so run it again after the store was upgraded or changed.
/// Exits with 1 where a promise cannot be kept.
#[derive(Debug, Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let output = context.output;
        let place = &context.place;
        let mut stop = Stop::listen(context.output)?;
        let (client, config) = place
            .client(Absent::Create, context.settings.client_options())
            .await?;
        let config = context.settings.apply(config);
        output.note(format_args!("asking {place}: some 550 requests and 10 MiB"));
        let examined = examine(client, config, stop.told()).await;
        let examined = examined.map_err(|error| place.unusable(error))?;
        let Some(examination) = examined else {
            return Err(
                Failure::new(format!("stopped before all of {place} was asked"))
                    .hint("what was written for it was removed; the profile is as it was"),
            );
        };
        for asked in Asked::all(&examination) {
            output.event(&Event::Question(asked))?;
        }
        for line in report::lines(&examination) {
            output.say(line)?;
        }
        output.event(&Event::of(&examination))?;
        verdict(&examination)
    }
}

fn verdict(examination: &Examination) -> Result<(), Failure> {
    if examination.keeps_promises() {
        return Ok(());
    }
    let broken = examination
        .of(Weight::Breaks)
        .map(|finding| finding.question.text());
    let broken = broken.collect::<Vec<_>>().join("; ");
    Err(Failure::new("the store cannot keep every promise")
        .because(Failure::new(format!("it does not do this: {broken}"))))
}
