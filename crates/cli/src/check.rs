//! `check`: what of the bucket cannot be read, and its repair.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::format::counted;
use super::output::{Output, Traffic};
use super::settings::value::{Kind as _, Size};
use super::store_url::Absent;
use super::sweep::age;
use super::{Context, format};
use s3layers::{
    CheckOptions, CheckReport, CheckVerdict, Defect, DefectSeverity, Digest, ReadShare,
    RepositoryName, RunError, Tag,
};

/// Look for damage, and repair it
///
/// Reads every record, manifest and tag, and lists the rest. Names the images that cannot be pulled. What is found is
/// looked at again after 15 minutes, since the bucket may be in use. Exit codes: 0 no damage, 1 damage is left, 2
/// something could not be looked at, 3 all damage was repaired.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Repair what follows from the rest of the bucket
    ///
    /// Records from links, links from manifests, aliases, referrers, markers, recorded ETags. Data, tags and manifests are
    /// never changed.
    #[arg(long)]
    repair: bool,
    /// Ask the store about each data object and each link
    #[arg(long)]
    objects: bool,
    /// Read so much of all layers: 1/30, 5%, 10GiB
    ///
    /// The next check continues there, so that 1/30 each night reads everything in a month.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    read: Option<ReadShare>,
    /// Make at most this many requests a second
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Look again after this time [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = age)]
    wait: Option<Duration>,
    /// Judge no document that is younger [default: 1h]
    ///
    /// 0s for a bucket to which nothing is pushed meanwhile, as one that was just restored.
    #[arg(long, value_name = "TIME", value_parser = age)]
    min_age: Option<Duration>,
}

const EXPECTED: &str =
    "expected a share up to 100% such as 1/30 or 5%, or a size above 0 such as 10GiB";

fn parse_share(text: &str) -> Result<ReadShare, String> {
    let part = match (text.split_once('/'), text.strip_suffix('%')) {
        (Some((part, all)), _) => f64::from_str(part).ok().zip(f64::from_str(all).ok()),
        (None, Some(percent)) => f64::from_str(percent).ok().map(|part| (part, 100.0)),
        (None, None) => {
            let bytes = Size::parse(text).filter(|size| size.0 > 0);
            let bytes = bytes.map(|size| ReadShare::Bytes(size.0));
            return bytes.ok_or_else(|| EXPECTED.to_owned());
        }
    };
    match part.map(|(part, all)| part / all) {
        Some(share) if share > 0.0 && share <= 1.0 => Ok(ReadShare::Part(share)),
        _ => Err(EXPECTED.to_owned()),
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Defect {
        kind: String,
        key: &'a str,
        severity: &'a str,
        repaired: bool,
    },
    /// An image that cannot be pulled.
    Broken {
        repository: &'a RepositoryName,
        digest: Option<&'a Digest>,
        tags: &'a [Tag],
    },
    Unchecked {
        reason: &'a str,
    },
    /// The end.
    Checked {
        verdict: &'a str,
        repositories: u64,
        layers: u64,
        links: u64,
        manifests: u64,
        tags: u64,
        layers_read: u64,
        bytes_read: u64,
        too_young: u64,
        /// More objects with defects, and more that could not be looked at, than are listed.
        more_defective: u64,
        more_unchecked: u64,
        #[serde(flatten)]
        traffic: Traffic,
    },
}

impl Check {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let incomplete = |failure: Failure| failure.with_code(INCOMPLETE);
        let service = context.connect(Absent::Refuse).await;
        let service = service.map_err(incomplete)?;
        let options = CheckOptions {
            repair: self.repair,
            objects: self.objects,
            read: self.read,
            rate: self.rate,
            wait: self.wait,
            min_age: self.min_age,
        };
        let counting = context.output.counting("checking", &service);
        let (checked, error) = RunError::split(service.check(&options).await);
        drop(counting);
        let verdict = if error.is_some() {
            CheckVerdict::Incomplete
        } else {
            checked.verdict()
        };
        let traffic = service.usage().into();
        let output = context.output;
        let shown = list(output, &checked).and_then(|()| total(output, &checked, verdict, traffic));
        match (shown, error) {
            (Err(failure), _) => Err(incomplete(failure)),
            (_, Some(error)) => Err(incomplete(Failure::of(&error))),
            _ => exit(context, verdict, &checked),
        }
    }
}

const DAMAGED: u8 = 1;
const INCOMPLETE: u8 = 2;
const REPAIRED: u8 = 3;

fn exit(context: &Context, verdict: CheckVerdict, checked: &CheckReport) -> Result<(), Failure> {
    let failed = |code, message: String| Err(Failure::new(message).with_code(code));
    let is_damage = |defect: &&Defect| defect.kind.severity() == DefectSeverity::Damage;
    let damage = checked.defects.iter().filter(is_damage);
    let damage = damage.filter(|defect| !defect.is_repaired).count() as u64;
    let left = format!("left: {}", counted(damage, "defect"));
    let unchecked = "not everything could be checked";
    match verdict {
        CheckVerdict::Clean => Ok(()),
        CheckVerdict::Repaired => {
            let note = "all damage was repaired; another check looks at what was rebuilt";
            context.output.note(note);
            Err(Failure::silent().with_code(REPAIRED))
        }
        CheckVerdict::Damaged => failed(DAMAGED, left),
        _ if damage > 0 => failed(INCOMPLETE, format!("{left}; {unchecked}")),
        _ => failed(INCOMPLETE, unchecked.to_owned()),
    }
}

fn severity(defect: &Defect) -> &'static str {
    match defect.kind.severity() {
        DefectSeverity::Damage => "damage",
        DefectSeverity::Leftover => "leftover",
        _ => "unchecked",
    }
}

/// `DataMissing` as `data missing`, in words or joined otherwise.
fn kind(defect: &Defect, between: char) -> String {
    let mut words = String::new();
    for letter in format!("{:?}", defect.kind).chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(between);
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// Prints what is wrong, and what could not be looked at.
fn list(output: Output, checked: &CheckReport) -> Result<(), Failure> {
    for defect in &checked.defects {
        let state = if defect.is_repaired {
            "repaired"
        } else {
            severity(defect)
        };
        output.say(format_args!(
            "{state:9}  {}  {}",
            kind(defect, ' '),
            defect.key
        ))?;
        output.event(&Event::Defect {
            kind: kind(defect, '_'),
            key: &defect.key,
            severity: severity(defect),
            repaired: defect.is_repaired,
        })?;
    }
    for image in &checked.broken {
        let tags: Vec<&str> = image.tags.iter().map(|tag| tag.as_str()).collect();
        let tags = tags.join(", ");
        let name = &image.name;
        output.say(match &image.digest {
            Some(digest) => format!("broken     {name}@{digest}  {tags}"),
            None => format!("broken     {name}:{tags}"),
        })?;
        output.event(&Event::Broken {
            repository: name,
            digest: image.digest.as_ref(),
            tags: &image.tags,
        })?;
    }
    for reason in &checked.unchecked {
        output.say(format_args!("unchecked  {reason}"))?;
        output.event(&Event::Unchecked { reason })?;
    }
    Ok(())
}

fn total(
    output: Output,
    checked: &CheckReport,
    verdict: CheckVerdict,
    traffic: Traffic,
) -> Result<(), Failure> {
    for (more, what) in [
        (
            checked.more_defective,
            "objects with defects: repair these first",
        ),
        (
            checked.more_unchecked,
            "objects that could not be looked at",
        ),
    ] {
        if more > 0 {
            output.say(format_args!("unchecked  {more} more {what}"))?;
        }
    }
    if !checked.broken.is_empty() {
        let names: std::collections::BTreeSet<_> =
            checked.broken.iter().map(|image| &image.name).collect();
        let tags: usize = checked.broken.iter().map(|image| image.tags.len()).sum();
        let images = checked.broken.len();
        output.say(format_args!(
            "cannot be pulled: {} with {}, of {}",
            counted(images as u64, "image"),
            counted(tags as u64, "tag"),
            counted(names.len() as u64, "repository")
        ))?;
    }
    output.note(format_args!(
        "checked: {}, {}, {} and {} of {}; {} of layers read",
        counted(checked.layers, "layer"),
        counted(checked.links, "link"),
        counted(checked.manifests, "manifest"),
        counted(checked.tags, "tag"),
        counted(checked.repositories, "repository"),
        format::size(checked.bytes_read)
    ));
    if checked.too_young > 0 {
        output.note(format_args!(
            "not judged: {} younger than --min-age; where nothing is written meanwhile, check with --min-age 0s",
            counted(checked.too_young, "document")
        ));
    }
    output.event(&Event::Checked {
        verdict: match verdict {
            CheckVerdict::Clean => "clean",
            CheckVerdict::Repaired => "repaired",
            CheckVerdict::Damaged => "damaged",
            _ => "incomplete",
        },
        repositories: checked.repositories,
        layers: checked.layers,
        links: checked.links,
        manifests: checked.manifests,
        tags: checked.tags,
        layers_read: checked.layers_read,
        bytes_read: checked.bytes_read,
        too_young: checked.too_young,
        more_defective: checked.more_defective,
        more_unchecked: checked.more_unchecked,
        traffic,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, want) in [
            ("1/4", Some(ReadShare::Part(0.25))),
            ("50%", Some(ReadShare::Part(0.5))),
            ("1/1", Some(ReadShare::Part(1.0))),
            ("10GiB", Some(ReadShare::Bytes(10 << 30))),
            ("0/3", None),
            ("0", None),
            ("3/0", None),
            ("2/1", None),
            ("nan%", None),
            ("many", None),
        ] {
            assert_eq!(parse_share(text).ok(), want, "{text}");
        }
    }
}
