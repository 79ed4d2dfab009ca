//! The probes and the scrape over HTTP: `/livez`, `/readyz`, `/metrics`. It builds the routes; serving them, on which
//! address and to whom, is the caller's business.
//!
//! What holds: a probe answers 200 or 503, with the same JSON either way, so that a reader need not guess why.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::health::{ComponentState, Health, HealthSnapshot};
use crate::metrics::Metrics;

/// The content type of the OpenMetrics text format, version 1.0.0.
pub const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes of the admin port that every process has.
pub fn admin_routes(health: Health, metrics: Metrics) -> Router {
    let probes = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(health);
    let scrape = Router::new().route("/metrics", get(scrape)).with_state(metrics);
    probes.merge(scrape)
}

async fn live(State(health): State<Health>) -> Response {
    let snapshot = health.snapshot();
    let body = match &snapshot.not_live {
        None => json!({ "status": "live" }),
        Some(reason) => json!({ "status": "not live", "reason": reason }),
    };
    answer(snapshot.not_live.is_none(), &body)
}

async fn ready(State(health): State<Health>) -> Response {
    let snapshot = health.snapshot();
    answer(snapshot.ready, &describe(&snapshot))
}

async fn scrape(State(metrics): State<Metrics>) -> Response {
    let content_type = HeaderValue::from_static(OPENMETRICS_CONTENT_TYPE);
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n").into_response()
        }
    }
}

fn answer(good: bool, body: &Value) -> Response {
    let status = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, format!("{body}\n")).into_response()
}

fn describe(snapshot: &HealthSnapshot) -> Value {
    let status = match (snapshot.ready, snapshot.draining) {
        (true, _) => "ready",
        (false, true) => "draining",
        (false, false) => "not ready",
    };
    let components = snapshot.components.iter().map(|component| {
        let (state, reason) = match &component.state {
            ComponentState::Starting => ("starting", None),
            ComponentState::Ready => ("ready", None),
            ComponentState::NotReady { reason, .. } => ("not ready", Some(reason)),
            ComponentState::Draining => ("draining", None),
        };
        let mut described = json!({
            "name": component.name,
            "required": component.required,
            "state": state,
            "state_for_seconds": component.state_for.as_secs_f64(),
        });
        if let Some(reason) = reason {
            described["reason"] = json!(reason);
        }
        described
    });
    let mut described = json!({ "status": status, "components": components.collect::<Vec<_>>() });
    if let Some(reason) = &snapshot.not_live {
        described["not_live"] = json!(reason);
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use std::time::Duration;
    use tower::ServiceExt;

    async fn ask(routes: &Router, path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, content_type, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn probes_follow_the_state_and_give_reasons() {
        let clock = Arc::new(ManualClock::new(0));
        let health = Health::new(clock.clone());
        let routes = admin_routes(health.clone(), Metrics::new([("region", "us-east")]));
        let broker = health.component("broker main");
        broker.not_ready("refused");
        clock.advance(Duration::from_millis(1500));
        let (status, content_type, body) = ask(&routes, "/readyz").await;
        assert_eq!(
            (status, content_type.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "application/json")
        );
        assert_eq!(
            serde_json::from_str::<Value>(&body).unwrap(),
            json!({ "status": "not ready", "components": [{
                "name": "broker main", "required": true, "state": "not ready",
                "state_for_seconds": 1.5, "reason": "refused",
            }]})
        );
        assert_eq!(ask(&routes, "/livez").await.0, StatusCode::OK);
        broker.ready();
        assert_eq!(ask(&routes, "/readyz").await.0, StatusCode::OK);
        health.drain();
        let (status, _, body) = ask(&routes, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("\"status\":\"draining\""));
        health.not_live("stuck");
        assert_eq!(ask(&routes, "/livez").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn the_scrape_is_openmetrics_text() {
        let health = Health::new(Arc::new(ManualClock::new(0)));
        let routes = admin_routes(health, Metrics::new([("region", "us-east")]));
        let (status, content_type, body) = ask(&routes, "/metrics").await;
        assert_eq!(
            (status, content_type.as_str()),
            (StatusCode::OK, OPENMETRICS_CONTENT_TYPE)
        );
        assert!(body.ends_with("# EOF\n"));
    }
}
