//! A run from start to verdict: traffic, blows, healing, drain, one fresh event.
//!
//! In the end everything is healed, the publishers flush, and workers go on until
//! nothing is missing or nothing moves any more. What is missing then is followed by
//! fresh events of its own keys: where they come, it is lost; where they do not, the
//! key is wedged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meridian_cli::history::EventName;
use meridian_tests::harness::scratch::unique;
use meridian_tests::harness::wait::{eventually, flow};
use meridian_tests::harness::{Gateway, GatewayPlan, Scratch, meridian};
use meridian_tests::traffic::payload;
use meridian_worker_sdk::Publisher;
use tokio::time::Instant;

use crate::broker::{BrokerKind, brokers};
use crate::checker::{Checker, Figures};
use crate::history::{Blow, KEYS, Outcome, Part, What, name_of};
use crate::oracle::Oracle;
use crate::plant::Plant;
use crate::publisher::{DELIVERY_TIMEOUT, TYPE};
use crate::report::{self, Verdict};
use crate::schedule::{Parts, schedule};
use crate::victims::{Child, Struck, Victim, leave};

/// The group in order of keys.
pub const ORDERED: &str = "ordered";
/// The group in no order.
pub const UNORDERED: &str = "unordered";
/// Both, and whether order counts.
pub const GROUPS: [(&str, bool); 2] = [(ORDERED, true), (UNORDERED, false)];

const LOOK: Duration = Duration::from_secs(1);
/// Looks without progress until the drain has come to its end: longer than a session and a lease take.
const IDLE_LOOKS: u32 = 45;
/// How long the groups may take to be there.
const READ_WITHIN: Duration = Duration::from_secs(60);
const FRESH: Duration = Duration::from_secs(60);
/// Keys with something missing that are followed by a fresh event.
const FOLLOWED_KEYS: usize = 20;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// The broker.
    pub broker: BrokerKind,
    /// How long blows fall.
    pub length: Duration,
    /// What they are drawn from.
    pub seed: u64,
    /// Events a second, over both publishers.
    pub rate: u32,
    /// A planted bug.
    pub plant: Option<Plant>,
    /// This program.
    pub program: PathBuf,
    /// Keep the files of a green run too.
    pub keep: bool,
}

/// What it came to.
#[derive(Debug)]
pub struct Run {
    /// The verdict.
    pub verdict: Verdict,
    /// Its figures.
    pub figures: Figures,
    /// Where the history is, unless the run was green.
    pub history: Option<PathBuf>,
}

/// Runs it, saying what it does by `say`.
///
/// # Errors
/// When the history cannot be written.
///
/// # Panics
/// As the harness does, when a process cannot be started or struck.
pub async fn run(plan: &RunPlan, say: &dyn Fn(&str)) -> std::io::Result<Run> {
    let mut scratch = Scratch::new("chaos");
    let parts = Parts {
        gateways: plan.broker.gateways(),
        workers: 5,
        publishers: 2,
        brokers: plan.broker.processes(),
    };
    let oracle = Oracle::open(
        &scratch.path("history"),
        Checker::new(&GROUPS, plan.broker.commit_slack()),
        plan.plant,
    )
    .await?;
    let oracle = Arc::new(oracle);
    let (victims, gateways) = start(plan, &parts, &scratch, &oracle).await;
    say("everything runs; blows fall");
    strike(plan, &parts, &victims, say).await;
    say("healing");
    let (mut wrongs, healed) = heal(victims).await;
    say("publishers flush");
    wrongs.extend(drain(healed.publishers).await);
    for gateway in &healed.gateways {
        ready(gateway).await;
    }
    until_idle(&oracle, say).await;
    wrongs.extend(fresh(&oracle, &gateways).await);
    wrongs.extend(
        oracle
            .failure()
            .map(|error| format!("the history could not be written: {error}")),
    );
    let figures = oracle.look(Checker::figures);
    let verdict = judge(plan, &parts, &figures, wrongs);
    let keep = plan.keep || verdict != Verdict::Green;
    let history = keep.then(|| scratch.keep().join("history"));
    // The others end here.
    drop(healed.rest);
    Ok(Run {
        verdict,
        figures,
        history,
    })
}

/// Starts everything; the broker first, and gateways that are ready.
async fn start(plan: &RunPlan, parts: &Parts, scratch: &Scratch, oracle: &Arc<Oracle>) -> (Vec<Struck>, Vec<String>) {
    let service = plan.broker.service(scratch);
    if let Some(service) = &service {
        service.start_first().await;
    }
    let topic = unique("orders");
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {topic} }}\n");
    let first = GatewayPlan::new("us-east", brokers(service.as_ref()), rules);
    let mut plans = vec![first.another("gateway-0")];
    plans.extend((1..parts.gateways).map(|number| first.another(&format!("gateway-{number}"))));
    let addresses: Vec<String> = plans.iter().map(GatewayPlan::data).collect();
    let admins: Vec<String> = plans.iter().map(GatewayPlan::admin).collect();
    let strike =
        |part: Part, number: usize, victim| Struck::new(part, format!("{part}-{number}"), victim, Arc::clone(oracle));
    let mut gateways = Vec::new();
    for plan in plans {
        let gateway = plan.start(scratch).await;
        ready(&gateway).await;
        gateways.push(gateway);
    }
    if plan.broker == BrokerKind::Rabbitmq
        && let Some(service) = &service
    {
        // RabbitMQ 3.10 notes minutes late, or at an orderly stop, that it has streams at all: a kill before that takes
        // Meridian's catalog with it (docs/delivery.md). This node stands for one that has run for longer.
        service.stop().await;
        service.start_again().await;
        for gateway in &gateways {
            ready(gateway).await;
        }
    }
    let victim = |(number, gateway)| strike(Part::Gateway, number, Victim::Gateway(gateway));
    let mut victims: Vec<Struck> = gateways.into_iter().enumerate().map(victim).collect();
    victims.extend(service.map(|service| strike(Part::Broker, 0, Victim::Broker(service))));
    meridian(&["topics", "create", &topic, "--partitions", "4", "--admin", &admins[0]])
        .await
        .success();
    let common = [
        "--oracle".to_owned(),
        oracle.address().to_owned(),
        "--gateways".to_owned(),
        addresses.join(","),
    ];
    let child = |part: Part, number: usize, words: Vec<String>| {
        let name = format!("{part}-{number}");
        let arguments = std::iter::once(part.to_string()).chain(common.clone()).chain(words);
        let child = Child::start(
            &name,
            plan.program.clone(),
            arguments.collect(),
            scratch.path(&format!("{name}.log")),
        );
        strike(part, number, Victim::Child(child))
    };
    for number in 0..parts.workers {
        // Three in order, the others not.
        let ordered = number < 3;
        let group = if ordered { ORDERED } else { UNORDERED };
        let mut words = vec![
            "--group".to_owned(),
            group.to_owned(),
            "--topic".to_owned(),
            topic.clone(),
        ];
        words.extend(ordered.then(|| "--ordered".to_owned()));
        victims.push(child(Part::Worker, number, words));
    }
    // A queue keeps nothing for a group to come.
    for (group, _) in GROUPS {
        eventually(READ_WITHIN, &format!("group {group} to read {topic}"), || {
            is_read(&admins, group, &topic)
        })
        .await;
    }
    for number in 0..parts.publishers {
        let rate = plan.rate / u32::try_from(parts.publishers).unwrap_or(1);
        let mut words = vec!["--rate".to_owned(), rate.to_string()];
        if let Some(plant) = plan.plant {
            words.extend(["--plant".to_owned(), plant_word(plant)]);
        }
        victims.push(child(Part::Publisher, number, words));
    }
    (victims, addresses)
}

/// Whether the broker has the group, with the topic's partitions, and a gateway a session of it.
async fn is_read(admins: &[String], group: &str, topic: &str) -> bool {
    for admin in admins {
        let described = meridian(&["groups", "describe", group, "--admin", admin, "--output", "json"]).await;
        let Ok(described) = serde_json::from_str::<serde_json::Value>(&described.out) else {
            continue; // it is not there yet
        };
        let list = |name: &str| described[name].as_array().cloned().unwrap_or_default();
        if !list("sessions").is_empty() && list("partitions").iter().any(|each| each["topic"] == topic) {
            return true;
        }
    }
    false
}

fn plant_word(plant: Plant) -> String {
    use clap::ValueEnum as _;
    plant
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

async fn ready(gateway: &Gateway) {
    gateway.ready().await;
}

/// Lets every blow of the schedule fall at its time.
async fn strike(plan: &RunPlan, parts: &Parts, victims: &[Struck], say: &dyn Fn(&str)) {
    let began = Instant::now();
    for blow in schedule(plan.seed, plan.length, parts) {
        flow(blow.at.saturating_sub(began.elapsed())).await;
        say(&report::planned(&blow));
        let mut of_part = victims.iter().filter(|victim| victim.part() == blow.part);
        if let Some(victim) = of_part.nth(blow.which) {
            // One whose task has failed tells so when it is healed.
            victim.strike(blow.blow, blow.lasts).await;
        }
    }
    flow(plan.length.saturating_sub(began.elapsed())).await;
}

struct Healed {
    publishers: Vec<Victim>,
    gateways: Vec<Gateway>,
    /// Workers and the broker.
    rest: Vec<Victim>,
}

async fn heal(victims: Vec<Struck>) -> (Vec<String>, Healed) {
    let mut wrongs = Vec::new();
    let mut healed = Healed {
        publishers: Vec::new(),
        gateways: Vec::new(),
        rest: Vec::new(),
    };
    for struck in victims {
        let part = struck.part();
        let (victim, wrong) = struck.heal().await;
        wrongs.extend(wrong);
        match victim {
            Victim::Gateway(gateway) => healed.gateways.push(gateway),
            victim if part == Part::Publisher => healed.publishers.push(victim),
            victim => healed.rest.push(victim),
        }
    }
    (wrongs, healed)
}

async fn drain(publishers: Vec<Victim>) -> Vec<String> {
    let mut wrongs = Vec::new();
    for publisher in publishers {
        wrongs.extend(leave("a publisher", publisher).await);
    }
    wrongs
}

/// Until nothing is missing, or nothing has moved for many looks.
async fn until_idle(oracle: &Oracle, say: &dyn Fn(&str)) {
    let (mut idle, mut seen) = (0, 0);
    while idle < IDLE_LOOKS {
        let (missing, deliveries) = oracle.look(|checker| (checker.missing().len(), checker.deliveries()));
        if missing == 0 {
            return;
        }
        idle = if deliveries == seen { idle + 1 } else { 0 };
        seen = deliveries;
        if idle == IDLE_LOOKS / 2 {
            say(&format!("{missing} are missing, and nothing moves"));
        }
        flow(LOOK).await;
    }
}

/// Publishes one fresh event of each key of a new publisher, and of each key with
/// something missing; those that do not come say what is wedged.
async fn fresh(oracle: &Oracle, gateways: &[String]) -> Vec<String> {
    let number = oracle.new_publisher();
    let missing = oracle.look(|checker| checker.missing());
    let mut names: Vec<EventName> = (0..u64::from(KEYS)).map(|sequence| name_of(number, sequence)).collect();
    // Far beyond what the publisher of the key has sent, and still of that key.
    let after = |name: &EventName| name_of(name.publisher, u64::from(KEYS) * 1_000_000 + u64::from(name.key));
    let mut of_missing: Vec<EventName> = missing.iter().map(|(_, name)| after(name)).collect();
    of_missing.sort_unstable();
    of_missing.dedup();
    names.extend(of_missing.iter().take(FOLLOWED_KEYS));
    let publisher = Publisher::builder(gateways.to_vec())
        .delivery_timeout(DELIVERY_TIMEOUT)
        .build();
    let publisher = publisher.expect("a run has gateways");
    let mut wrongs = Vec::new();
    for name in &names {
        oracle.note(What::Attempted(*name));
        match publisher.publish(payload::event(*name, TYPE, None)).await {
            Ok(_) => oracle.note(What::Ended(*name, Outcome::Stored)),
            Err(error) => {
                oracle.note(What::Ended(*name, Outcome::Unknown));
                wrongs.push(format!("a fresh event could not be published: {error}"));
                return wrongs;
            }
        }
    }
    let began = Instant::now();
    let away = || oracle.look(|checker| names.iter().filter(|name| !checker.is_everywhere(**name)).count());
    while away() > 0 && began.elapsed() < FRESH {
        flow(LOOK).await;
    }
    match away() {
        0 => {}
        away => wrongs.push(format!(
            "wedged: {away} of {} fresh events never came everywhere",
            names.len()
        )),
    }
    wrongs
}

fn judge(plan: &RunPlan, parts: &Parts, figures: &Figures, wrongs: Vec<String>) -> Verdict {
    let mut broken = figures.broken();
    broken.extend(wrongs);
    if !broken.is_empty() {
        return Verdict::Red(broken);
    }
    let mut void = Vec::new();
    // A fifth of what was to be sent: the rest may fall to the blows.
    let least = plan.length.as_secs() * u64::from(plan.rate) / 5;
    if figures.acknowledged < least {
        void.push(format!(
            "{} acknowledged, at least {least} are needed",
            figures.acknowledged
        ));
    }
    let missing = |part: &Part| parts.count(*part) > 0;
    for part in Part::ALL.iter().filter(|part| missing(part)) {
        for blow in [Blow::Kill, Blow::Freeze] {
            let least = plan.length.as_secs() / 120;
            if figures.struck(*part, blow) < least {
                void.push(format!(
                    "{} of {least} blows: {blow} {part}",
                    figures.struck(*part, blow)
                ));
            }
        }
    }
    match void.is_empty() {
        true => Verdict::Green,
        false => Verdict::Void(void),
    }
}
