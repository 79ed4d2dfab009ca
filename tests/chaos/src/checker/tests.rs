//! Every check is shown red by a history that breaks it, and green by one that does not.

use super::*;
use crate::history::{Place, name_of};

const ORDERED: &str = "ordered";
const UNORDERED: &str = "unordered";
const SLACK: Duration = Duration::from_secs(5);

struct Story {
    checker: Checker,
    now_ms: u64,
}

impl Story {
    fn new() -> Self {
        Self {
            checker: Checker::new(&[(ORDERED, true), (UNORDERED, false)], SLACK),
            now_ms: 0,
        }
    }

    fn tell(&mut self, what: What) {
        self.now_ms += 10;
        let at_ms = self.now_ms;
        self.checker.note(&Entry { at_ms, what });
    }

    fn published(&mut self, sequence: u64, outcome: Option<Outcome>) {
        self.tell(What::Attempted(name_of(1, sequence)));
        if let Some(outcome) = outcome {
            self.tell(What::Ended(name_of(1, sequence), outcome));
        }
    }

    fn delivered(&mut self, group: &str, sequence: u64) {
        self.delivered_as(group, sequence, Some(copy(sequence, 0)));
    }

    fn delivered_as(&mut self, group: &str, position: u64, copy: Option<StoredCopy>) {
        let (group, place) = (group.to_owned(), place(position));
        self.tell(What::Delivered {
            group,
            place,
            attempt: 1,
            copy,
        });
    }

    fn settled(&mut self, group: &str, sequence: u64) {
        let (group, place, copy) = (group.to_owned(), place(sequence), copy(sequence, 0));
        self.tell(What::Settled { group, place, copy });
    }

    /// Ten events of one key, stored, delivered and settled in both groups.
    fn good() -> Self {
        let mut story = Self::new();
        for sequence in events(0..10) {
            story.published(sequence, Some(Outcome::Stored));
            for group in [ORDERED, UNORDERED] {
                story.delivered(group, sequence);
                story.settled(group, sequence);
            }
        }
        story
    }

    fn struck(&mut self, part: Part, blow: Blow) {
        self.tell(What::Struck(part, "it".to_owned(), blow));
    }

    fn mended(&mut self, part: Part, blow: Blow) {
        self.tell(What::Mended(part, "it".to_owned(), blow));
    }

    fn group(&self, group: &str) -> GroupFigures {
        self.checker.figures().groups[group].clone()
    }

    fn broken(&self) -> Vec<String> {
        self.checker.figures().broken()
    }
}

/// Sequences of one key.
fn events(numbers: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
    numbers.map(|number| number * u64::from(crate::history::KEYS))
}

fn copy(sequence: u64, recorded_ms: i64) -> StoredCopy {
    StoredCopy {
        name: name_of(1, sequence),
        recorded_ms,
    }
}

fn place(position: u64) -> Place {
    Place {
        topic: "orders".to_owned(),
        partition: 0,
        position,
    }
}

#[test]
fn a_good_history_is_green() {
    let story = Story::good();
    assert_eq!(story.broken(), Vec::<String>::new());
    let figures = story.checker.figures();
    assert_eq!((figures.attempted, figures.acknowledged), (10, 10));
    assert_eq!(
        (figures.groups[ORDERED].delivered, figures.groups[ORDERED].settled),
        (10, 10)
    );
    assert!(story.checker.missing().is_empty());
}

#[test]
fn an_acknowledged_event_that_never_came_is_lost_and_an_unknown_one_is_not() {
    let mut story = Story::good();
    story.published(400, Some(Outcome::Stored));
    story.delivered(UNORDERED, 400);
    story.published(440, Some(Outcome::Unknown));
    story.published(480, None);
    assert_eq!(story.broken(), ["group ordered: 1 lost"]);
    assert_eq!(story.checker.missing(), [(ORDERED.to_owned(), name_of(1, 400))]);
    assert_eq!(story.checker.figures().unknown, 2);
}

#[test]
fn an_inversion_of_first_deliveries_is_red_in_the_ordered_group_alone() {
    let mut story = Story::good();
    for sequence in [400, 440] {
        story.published(sequence, Some(Outcome::Stored));
    }
    for group in [ORDERED, UNORDERED] {
        story.delivered(group, 440);
        story.delivered(group, 400);
    }
    assert_eq!(story.broken(), ["group ordered: 1 reordered"]);
    assert_eq!(story.group(UNORDERED).reordered, 1, "counted there, and allowed");
}

#[test]
fn a_repeat_in_order_is_a_duplicate_and_no_inversion() {
    let mut story = Story::new();
    for sequence in events(0..3) {
        story.published(sequence, Some(Outcome::Stored));
    }
    for sequence in events(0..3).chain(events(0..3)) {
        story.delivered(ORDERED, sequence);
        story.delivered(UNORDERED, sequence);
    }
    assert_eq!(story.broken(), Vec::<String>::new());
    assert_eq!(
        (story.group(ORDERED).duplicated, story.group(ORDERED).reordered),
        (3, 0)
    );
}

#[test]
fn what_was_refused_and_came_all_the_same_is_red() {
    let mut story = Story::good();
    story.published(400, Some(Outcome::Refused));
    story.delivered(UNORDERED, 400);
    assert_eq!(story.broken(), ["group unordered: 1 refused and delivered"]);
}

#[test]
fn what_nobody_sent_and_what_is_damaged_is_red() {
    let mut story = Story::good();
    story.delivered(ORDERED, 400);
    story.delivered_as(UNORDERED, 11, None);
    let broken = ["group ordered: 1 unexpected", "group unordered: 1 damaged"];
    assert_eq!(story.broken(), broken);
}

#[test]
fn an_unknown_event_that_came_is_counted_as_recovered() {
    let mut story = Story::good();
    story.published(400, None);
    story.delivered(ORDERED, 400);
    assert_eq!(story.broken(), Vec::<String>::new());
    assert_eq!(story.group(ORDERED).recovered, 1);
}

#[test]
fn settled_work_that_comes_again_without_a_fault_is_red() {
    let mut story = Story::good();
    story.delivered(ORDERED, 0);
    assert_eq!(
        story.broken(),
        ["group ordered: 1 settled and come again without cause"]
    );
}

#[test]
fn a_record_is_known_by_its_event_and_not_by_its_position() {
    let mut story = Story::good();
    // A queue counts deliveries: after a new connection another event comes with a position that was settled.
    story.published(400, Some(Outcome::Stored));
    for group in [ORDERED, UNORDERED] {
        story.delivered_as(group, 0, Some(copy(400, 0)));
    }
    // A publisher that tried again stored a second record.
    story.delivered_as(ORDERED, 41, Some(copy(0, 1)));
    assert_eq!(story.broken(), Vec::<String>::new());
    assert_eq!(story.group(ORDERED).duplicated, 1);
    // The same record at another position.
    story.delivered_as(ORDERED, 42, Some(copy(0, 0)));
    assert_eq!(
        story.broken(),
        ["group ordered: 1 settled and come again without cause"]
    );
}

#[test]
fn a_kill_excuses_only_what_was_settled_right_before_it() {
    let mut story = Story::good();
    story.now_ms += BEFORE_MS;
    story.published(400, Some(Outcome::Stored));
    for group in [ORDERED, UNORDERED] {
        story.delivered(group, 400);
        story.settled(group, 400);
    }
    story.struck(Part::Gateway, Blow::Kill);
    story.mended(Part::Gateway, Blow::Kill);
    story.delivered(ORDERED, 400);
    assert_eq!(story.broken(), Vec::<String>::new());
    assert_eq!(story.group(ORDERED).again_excused, 1);
    story.delivered(ORDERED, 0);
    assert_eq!(
        story.broken(),
        ["group ordered: 1 settled and come again without cause"]
    );
}

#[test]
fn a_drain_and_the_end_of_a_worker_excuse_nothing() {
    for (part, blow) in [
        (Part::Gateway, Blow::Drain),
        (Part::Worker, Blow::Kill),
        (Part::Worker, Blow::Freeze),
        (Part::Publisher, Blow::Kill),
    ] {
        let mut story = Story::good();
        story.struck(part, blow);
        story.delivered(ORDERED, 360);
        assert_eq!(story.broken().len(), 1, "{part} {blow}");
    }
}

#[test]
fn while_the_broker_is_away_nothing_becomes_durable() {
    let mut story = Story::good();
    story.struck(Part::Broker, Blow::Kill);
    story.published(400, Some(Outcome::Stored));
    for group in [ORDERED, UNORDERED] {
        story.delivered(group, 400);
    }
    story.settled(ORDERED, 400);
    story.mended(Part::Broker, Blow::Kill);
    story.now_ms += SLACK.as_millis() as u64 + 1;
    story.delivered(ORDERED, 400);
    assert_eq!(story.broken(), Vec::<String>::new());
    story.settled(UNORDERED, 400);
    story.delivered(UNORDERED, 400);
    assert_eq!(
        story.broken(),
        ["group unordered: 1 settled and come again without cause"]
    );
}

#[test]
fn resuming_is_told_by_the_slowest_partition() {
    let mut story = Story::new();
    let at = |partition| Place {
        topic: "orders".to_owned(),
        partition,
        position: 0,
    };
    let deliver = |story: &mut Story, sequence, partition| {
        story.tell(What::Delivered {
            group: ORDERED.to_owned(),
            place: at(partition),
            attempt: 1,
            copy: Some(copy(sequence, 0)),
        });
    };
    for sequence in 0..2 {
        story.published(sequence, Some(Outcome::Stored));
        deliver(&mut story, sequence, sequence as u32);
    }
    story.struck(Part::Gateway, Blow::Kill);
    let killed_ms = story.now_ms;
    // An old event does not count, and one partition is not all of them.
    deliver(&mut story, 0, 0);
    story.published(2, Some(Outcome::Stored));
    deliver(&mut story, 2, 1);
    let resume = |story: &Story| story.checker.figures().resume[0].clone();
    assert_eq!(resume(&story).after_ms, None);
    story.published(3, Some(Outcome::Stored));
    deliver(&mut story, 3, 0);
    let expected = Resume {
        killed_ms,
        group: ORDERED.to_owned(),
        after_ms: Some(story.now_ms - killed_ms),
        disturbed: false,
    };
    assert_eq!(resume(&story), expected);
    story.struck(Part::Broker, Blow::Drain);
    assert_eq!(resume(&story), expected, "what falls later disturbs nothing");
}

#[test]
fn faults_are_counted_by_kind() {
    let mut story = Story::good();
    story.struck(Part::Gateway, Blow::Kill);
    story.struck(Part::Gateway, Blow::Kill);
    story.struck(Part::Worker, Blow::Freeze);
    let figures = story.checker.figures();
    assert_eq!(figures.struck(Part::Gateway, Blow::Kill), 2);
    assert_eq!(figures.struck(Part::Worker, Blow::Freeze), 1);
    assert_eq!(figures.struck(Part::Broker, Blow::Kill), 0);
}
