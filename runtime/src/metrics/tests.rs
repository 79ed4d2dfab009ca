//! Tests of the registry: names, labels, buckets, and what the process tells of itself.

use super::*;

fn metrics() -> Metrics {
    Metrics::new([("region", "us-east")])
}

#[test]
fn names_get_their_prefixes_and_every_line_the_labels() {
    let metrics = metrics();
    let published = Counter::<u64>::default();
    let gateway = metrics.sub_registry("meridian").sub_registry("gateway");
    gateway
        .register("published_events", "Events published", published.clone())
        .unwrap();
    published.inc_by(3);
    let text = metrics.encode().unwrap();
    assert!(
        text.contains("\nmeridian_gateway_published_events_total{region=\"us-east\"} 3\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn names_are_checked_and_taken_once() {
    let metrics = metrics();
    let register = |name: &str| metrics.register(name, "x", Counter::<u64>::default());
    register("events").unwrap();
    assert_eq!(
        register("events"),
        Err(RegisterError::Duplicate {
            name: "events".to_owned()
        })
    );
    for name in ["", "9events", "Events", "events-x", "events_total", "_x"] {
        assert!(
            matches!(register(name), Err(RegisterError::InvalidName { .. })),
            "{name}"
        );
    }
    let elsewhere = metrics.sub_registry("gateway");
    elsewhere.register("events", "x", Counter::<u64>::default()).unwrap();
}

#[test]
fn two_registries_know_nothing_of_each_other() {
    let (first, second) = (metrics(), metrics());
    first.register("events", "x", Counter::<u64>::default()).unwrap();
    second.register("events", "x", Counter::<u64>::default()).unwrap();
}

#[test]
fn latencies_land_in_the_buckets_of_opentelemetry() {
    let metrics = metrics();
    let latency = latency_histogram();
    metrics.register("latency_seconds", "x", latency.clone()).unwrap();
    latency.observe(0.06);
    let text = metrics.encode().unwrap();
    assert!(
        text.contains("latency_seconds_bucket{region=\"us-east\",le=\"0.05\"} 0"),
        "{text}"
    );
    assert!(
        text.contains("latency_seconds_bucket{region=\"us-east\",le=\"0.075\"} 1"),
        "{text}"
    );
    assert_eq!(text.matches("latency_seconds_bucket{").count(), 17); // 16 and +Inf
}

#[test]
fn the_build_is_told() {
    let metrics = metrics();
    metrics
        .sub_registry("x")
        .register_build_info("0.1.0", "abc\"\n")
        .unwrap();
    let text = metrics.encode().unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("meridian_build_info{"))
        .unwrap();
    assert!(line.contains("version=\"0.1.0\"") && line.ends_with("} 1"), "{line}");
    assert!(line.contains("revision=\"abc\\\"\\n\""), "{line}");
}

#[test]
fn the_process_is_measured() {
    let metrics = metrics();
    metrics.register_process().unwrap();
    let text = metrics.encode().unwrap();
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_threads") >= 1.0);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(metrics.register_process().is_err());
}
