//! Short runs over real processes: one that is green, and planted bugs that turn it red.

use std::path::PathBuf;
use std::time::Duration;

use meridian_chaos::broker::BrokerKind;
use meridian_chaos::plant::Plant;
use meridian_chaos::report::{Verdict, figures};
use meridian_chaos::run::{Run, RunPlan, run};

async fn short_run(plant: Option<Plant>) -> Run {
    let plan = RunPlan {
        broker: BrokerKind::Embedded,
        length: Duration::from_secs(15),
        seed: 3,
        rate: 100,
        plant,
        program: PathBuf::from(env!("CARGO_BIN_EXE_meridian-chaos")),
        keep: false,
    };
    run(&plan, &|_| {}).await.expect("the history can be written")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_green_and_planted_bugs_turn_it_red() {
    let run = short_run(None).await;
    assert_eq!(run.verdict, Verdict::Green, "{}", figures(&run.figures));
    for (plant, sign) in [
        (Plant::RefusedDelivered, "refused and delivered"),
        (Plant::DuplicateSettled, "come again without cause"),
    ] {
        let run = short_run(Some(plant)).await;
        let Verdict::Red(reasons) = &run.verdict else {
            panic!("{plant:?} was not seen: {}", run.verdict);
        };
        assert!(
            reasons.iter().all(|reason| reason.contains(sign)),
            "{plant:?}: {reasons:?}"
        );
        let history = run.history.expect("a red run keeps its history");
        let text = std::fs::read_to_string(&history).expect("the history is there");
        assert!(text.contains("struck"), "{}", history.display());
        let folder = history.parent().expect("the history is in a folder");
        std::fs::remove_dir_all(folder).expect("the folder can be removed");
    }
}
