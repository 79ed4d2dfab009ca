//! `meridian dlq`: look at dead letters, replay and purge them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_event::{Event, EventData};
use meridian_proto::meridian::{
    DeadLetter, DeadLetterCount, DeadLetterFilter, DeadLetterHistogram, DeadLetterPlace, DeadLetterProgress,
    ListDeadLettersRequest, PurgeDeadLettersRequest, ReplayDeadLettersRequest,
};
use prost_types::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::arguments::dlq::{DlqCommand, LetterArguments, Moment, Place};
use crate::client;
use crate::failure::Failure;
use crate::output::{Output, table};

pub(crate) async fn run(command: DlqCommand, output: Output) -> Result<(), Failure> {
    match command {
        DlqCommand::List { letters, limit } => list(&letters, limit, output).await,
        DlqCommand::Show {
            admin,
            topic,
            place,
            broker,
        } => show(&admin.address, (broker, topic), place, output).await,
        DlqCommand::Replay {
            letters,
            to,
            rate,
            max_replays,
            limit,
            dry_run,
        } => {
            let request = ReplayDeadLettersRequest {
                broker: letters.broker.clone(),
                topic: letters.topic.clone(),
                filter: Some(filter(&letters)),
                target_topic: to,
                events_per_second: rate.unwrap_or(0.0),
                max_replays,
                limit,
                dry_run,
            };
            let mut client = client::operations(&letters.admin.address).await?;
            let mut words = client.replay_dead_letters(request).await?.into_inner();
            let mut report = Report::new(if dry_run { "would replay" } else { "replayed" }, dry_run, output);
            while let Some(word) = words.message().await? {
                report.take(word.progress.unwrap_or_default())?;
            }
            report.end()
        }
        DlqCommand::Purge {
            letters,
            limit,
            dry_run,
            yes: _,
        } => {
            let request = PurgeDeadLettersRequest {
                broker: letters.broker.clone(),
                topic: letters.topic.clone(),
                filter: Some(filter(&letters)),
                limit,
                dry_run,
            };
            let mut client = client::operations(&letters.admin.address).await?;
            let mut words = client.purge_dead_letters(request).await?.into_inner();
            let mut report = Report::new(if dry_run { "would drop" } else { "dropped" }, dry_run, output);
            while let Some(word) = words.message().await? {
                report.take(word.progress.unwrap_or_default())?;
            }
            report.end()
        }
    }
}

async fn list(letters: &LetterArguments, limit: u32, output: Output) -> Result<(), Failure> {
    let request = ListDeadLettersRequest {
        broker: letters.broker.clone(),
        topic: letters.topic.clone(),
        filter: Some(filter(letters)),
        limit,
        include_events: false,
    };
    let (found, progress) = read_letters(&letters.admin.address, request).await?;
    if output.is_json() {
        let value = json!({
            "dead_letters": found.iter().map(letter_value).collect::<Vec<_>>(),
            "summary": progress_value(&progress),
        });
        return output.value(&value, String::new);
    }
    let rows: Vec<Vec<String>> = found.iter().map(letter_cells).collect();
    output.line(&table(
        &[
            "PLACE", "DIED", "REASON", "ATTEMPTS", "GROUP", "FROM", "TYPE", "ID", "REPLAYS", "ERROR",
        ],
        &rows,
    ))?;
    output.line(&format!("\n{} of {} match\n", progress.matched, progress.read))?;
    output.line(&histogram_text(&progress.histogram.unwrap_or_default()))?;
    match progress.truncated {
        true => output.line("there are more than one call reads; replay or purge some first"),
        false => Ok(()),
    }
}

async fn show(address: &str, (broker, topic): (String, String), place: Place, output: Output) -> Result<(), Failure> {
    let Place { partition, position } = place;
    let request = ListDeadLettersRequest {
        broker,
        topic,
        filter: Some(DeadLetterFilter {
            place: Some(DeadLetterPlace { partition, position }),
            ..DeadLetterFilter::default()
        }),
        limit: 1,
        include_events: true,
    };
    let (found, progress) = read_letters(address, request).await?;
    let Some(letter) = found.first() else {
        return Err(Failure::failed(format!(
            "{} has no dead letter at {partition}:{position}; it was replayed or purged, or never there",
            progress.topic
        )));
    };
    let mut value = letter_value(letter);
    let event = Some(&letter.event).filter(|event| !event.is_empty());
    let event = event.and_then(|event| Event::scan(event.clone()).ok());
    if let (Some(fields), Some(event)) = (value.as_object_mut(), event) {
        fields.insert("event".to_owned(), event_value(&event));
    }
    let text = || serde_json::to_string_pretty(&value).unwrap_or_default();
    output.value(&value, text)
}

async fn read_letters(
    address: &str,
    request: ListDeadLettersRequest,
) -> Result<(Vec<DeadLetter>, DeadLetterProgress), Failure> {
    let mut client = client::operations(address).await?;
    let mut words = client.list_dead_letters(request).await?.into_inner();
    let (mut found, mut progress) = (Vec::new(), DeadLetterProgress::default());
    while let Some(word) = words.message().await? {
        found.extend(word.dead_letters);
        progress = word.progress.unwrap_or_default();
    }
    match progress.finished {
        true => Ok((found, progress)),
        false => Err(Failure::failed(
            "the gateway ended before it had read all; run it again",
        )),
    }
}

/// Shows progress as it comes, and the end.
struct Report {
    done: &'static str,
    dry_run: bool,
    output: Output,
    last: DeadLetterProgress,
}

impl Report {
    fn new(done: &'static str, dry_run: bool, output: Output) -> Self {
        Self {
            done,
            dry_run,
            output,
            last: DeadLetterProgress::default(),
        }
    }

    fn take(&mut self, progress: DeadLetterProgress) -> Result<(), Failure> {
        if !progress.finished && !self.output.is_json() {
            self.output.line(&format!(
                "{} {} of {} matching so far",
                self.done, progress.done, progress.matched
            ))?;
        }
        self.last = progress;
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        let progress = self.last;
        if !progress.finished {
            return Err(Failure::failed(
                "the gateway ended before it was done; run it again to go on",
            ));
        }
        let count = match self.dry_run {
            true => progress.matched - progress.over_replay_limit,
            false => progress.done,
        };
        self.output.value(&progress_value(&progress), || {
            let mut text = format!(
                "{} {count} of {} dead letters in {}",
                self.done, progress.read, progress.topic
            );
            if progress.over_replay_limit > 0 {
                text += &format!("; left {} that were replayed too often", progress.over_replay_limit);
            }
            if progress.truncated {
                text += "; there are more: run it again";
            }
            text += "\n\n";
            text + &histogram_text(progress.histogram.as_ref().unwrap_or(&DeadLetterHistogram::default()))
        })?;
        match progress.failed {
            0 => Ok(()),
            failed => Err(Failure::failed(format!(
                "{failed} could not be replayed and stay where they are; the last fault: {}",
                progress.last_failure
            ))),
        }
    }
}

fn filter(letters: &LetterArguments) -> DeadLetterFilter {
    DeadLetterFilter {
        reason: letters.reason.clone(),
        group: letters.group.clone(),
        r#type: letters.type_name.clone(),
        source_topic: letters.source_topic.clone(),
        since: letters.since.as_ref().map(moment),
        until: letters.until.as_ref().map(moment),
        place: None,
    }
}

fn moment(moment: &Moment) -> Timestamp {
    match moment {
        Moment::At(timestamp) => *timestamp,
        Moment::Ago(span) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            let then = now.saturating_sub(*span);
            Timestamp {
                seconds: i64::try_from(then.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(then.subsec_nanos()).unwrap_or(0),
            }
        }
    }
}

fn place_text(letter: &DeadLetter) -> String {
    let place = letter.place.unwrap_or_default();
    format!("{}:{}", place.partition, place.position)
}

fn letter_cells(letter: &DeadLetter) -> Vec<String> {
    const MAX_ERROR_CHARACTERS: usize = 60;
    vec![
        place_text(letter),
        letter.died_at.map(|at| at.to_string()).unwrap_or_default(),
        letter.reason.clone(),
        letter.attempts.to_string(),
        letter.group.clone(),
        letter.source_topic.clone(),
        letter.event_type.clone(),
        letter.event_id.clone(),
        letter.replays.to_string(),
        letter.error.chars().take(MAX_ERROR_CHARACTERS).collect(),
    ]
}

fn letter_value(letter: &DeadLetter) -> Value {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    json!({
        "place": place_text(letter),
        "source_topic": letter.source_topic,
        "source_partition": letter.source_partition,
        "source_position": letter.source_position,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "error": letter.error,
        "group": letter.group,
        "worker": letter.worker_id,
        "died_at": time(letter.died_at),
        "first_attempt_at": time(letter.first_attempt_at),
        "last_attempt_at": time(letter.last_attempt_at),
        "replays": letter.replays,
        "event_id": letter.event_id,
        "event_source": letter.event_source,
        "event_type": letter.event_type,
    })
}

fn event_value(event: &Event) -> Value {
    let mut fields = Map::new();
    for (name, value) in [
        ("id", event.id()),
        ("source", event.source()),
        ("type", event.type_name()),
    ] {
        fields.insert(name.to_owned(), value.into());
    }
    for (name, value) in event.attributes() {
        fields.insert(name.to_owned(), value.canonical().into_owned().into());
    }
    let data = match event.data() {
        EventData::None => Value::Null,
        EventData::Text(text) => text.into(),
        EventData::Binary(bytes) | EventData::Protobuf { value: bytes, .. } => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => format!("{} bytes that are no text", bytes.len()).into(),
        },
    };
    fields.insert("data".to_owned(), data);
    Value::Object(fields)
}

#[derive(Serialize)]
struct Counts(Map<String, Value>);

fn counts(counts: &[DeadLetterCount]) -> Counts {
    let count = |each: &DeadLetterCount| (each.value.clone(), each.count.into());
    Counts(counts.iter().map(count).collect())
}

fn progress_value(progress: &DeadLetterProgress) -> Value {
    let histogram = progress.histogram.clone().unwrap_or_default();
    json!({
        "topic": progress.topic,
        "read": progress.read,
        "matched": progress.matched,
        "done": progress.done,
        "over_replay_limit": progress.over_replay_limit,
        "failed": progress.failed,
        "last_failure": progress.last_failure,
        "truncated": progress.truncated,
        "reasons": counts(&histogram.reasons),
        "types": counts(&histogram.types),
        "groups": counts(&histogram.groups),
        "source_topics": counts(&histogram.source_topics),
    })
}

fn histogram_text(histogram: &DeadLetterHistogram) -> String {
    let lists = [
        ("reason", &histogram.reasons),
        ("type", &histogram.types),
        ("group", &histogram.groups),
        ("from", &histogram.source_topics),
    ];
    let rows: Vec<Vec<String>> = lists
        .iter()
        .flat_map(|(name, counts)| {
            counts
                .iter()
                .map(|each| vec![(*name).to_owned(), each.value.clone(), each.count.to_string()])
        })
        .collect();
    table(&["BY", "VALUE", "COUNT"], &rows)
}
