//! `meridian publish`: events from the command line.

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::Path;

use meridian_worker_sdk::{Event, EventBuilder, Pending, PublishError, Publisher, Receipt};
use serde::Serialize;

use crate::arguments::PublishArguments;
use crate::failure::Failure;
use crate::output::Output;

/// Outcomes awaited at the same time; the publisher bounds the rest.
const MAX_PENDING: usize = 10_000;

#[derive(Serialize)]
struct Published {
    id: String,
    region: String,
    broker: String,
    topic: String,
    partition: u32,
    position: u64,
    rule: String,
    rules_revision: u64,
    duplicate: bool,
}

#[derive(Default)]
struct Tally {
    stored: u64,
    refused: u64,
    unknown: u64,
    first_error: Option<PublishError>,
}

pub(crate) async fn run(arguments: PublishArguments, output: Output) -> Result<(), Failure> {
    let data = data(&arguments)?;
    let publisher = Publisher::builder(arguments.gateway.clone())
        .delivery_timeout(arguments.timeout)
        .build()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let mut pending: VecDeque<(String, Pending)> = VecDeque::new();
    let mut tally = Tally::default();
    for number in 0..arguments.count {
        let event = event(&arguments, number, data.as_deref())?;
        let id = event.id().to_owned();
        match publisher.send(event).await {
            Ok(sent) => pending.push_back((id, sent)),
            Err(error) => tally.failed(error),
        }
        if pending.len() >= MAX_PENDING
            && let Some((id, sent)) = pending.pop_front()
        {
            tally.add(&arguments, output, id, sent.await)?;
        }
    }
    for (id, sent) in pending {
        tally.add(&arguments, output, id, sent.await)?;
    }
    tally.finish(&arguments, output)
}

impl Tally {
    fn failed(&mut self, error: PublishError) {
        match error.may_be_stored() {
            true => self.unknown += 1,
            false => self.refused += 1,
        }
        self.first_error.get_or_insert(error);
    }

    fn add(
        &mut self,
        arguments: &PublishArguments,
        output: Output,
        id: String,
        outcome: Result<Receipt, PublishError>,
    ) -> Result<(), Failure> {
        let receipt = match outcome {
            Ok(receipt) => receipt,
            Err(error) => {
                self.failed(error);
                return Ok(());
            }
        };
        self.stored += 1;
        if arguments.count > 1 && !output.is_json() {
            return Ok(());
        }
        let published = Published {
            id,
            region: receipt.region,
            broker: receipt.broker,
            topic: receipt.topic,
            partition: receipt.partition,
            position: receipt.position,
            rule: receipt.rule,
            rules_revision: receipt.rules_revision,
            duplicate: receipt.duplicate,
        };
        output.value(&published, || {
            format!(
                "{} {} at {}/{}/{} partition {} position {} (rule {}, revision {})",
                if published.duplicate {
                    "was stored before:"
                } else {
                    "stored"
                },
                published.id,
                published.region,
                published.broker,
                published.topic,
                published.partition,
                published.position,
                published.rule,
                published.rules_revision
            )
        })
    }

    fn finish(self, arguments: &PublishArguments, output: Output) -> Result<(), Failure> {
        if arguments.count > 1 && !output.is_json() {
            output.line(&format!(
                "{} stored, {} refused, {} unknown",
                self.stored, self.refused, self.unknown
            ))?;
        }
        match self.first_error {
            None => Ok(()),
            Some(error) => Err(Failure::failed(error)),
        }
    }
}

fn data(arguments: &PublishArguments) -> Result<Option<String>, Failure> {
    let Some(file) = &arguments.data_file else {
        return Ok(arguments.data.clone());
    };
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?;
    Ok(Some(text))
}

fn event(arguments: &PublishArguments, number: u64, data: Option<&str>) -> Result<Event, Failure> {
    let prefix = arguments.id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let id = match (arguments.count, &arguments.id) {
        (2.., Some(_)) => format!("{prefix}-{number}"),
        _ => prefix,
    };
    let mut event = EventBuilder::new(&id, &arguments.source, &arguments.type_name);
    if let Some(key) = &arguments.key {
        event = event.partition_key(key);
    }
    if let Some(region) = &arguments.region {
        event = event.extension("region", region.as_str());
    }
    for (name, value) in &arguments.attributes {
        event = event.extension(name, value.as_str());
    }
    if let Some(data) = data {
        event = event.data_content_type(&arguments.content_type).text_data(data);
    }
    event.build().map_err(|faults| Failure::Usage(faults.to_string()))
}
