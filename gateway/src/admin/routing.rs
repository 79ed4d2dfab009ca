//! RoutingService: the rules of this gateway.
//!
//! Faults of a document are an answer, not an error of the call; an error says
//! that the call itself could not be done.

use std::sync::Arc;

use meridian_event::{Event, EventLimits, ValidationSource};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::routing_service_server::RoutingService;
use meridian_runtime::Faults;
use tonic::{Request, Response, Status};

use crate::fault::{FaultCode, Refusal};
use crate::routing::{ApplyError, RuleBook, explain};

/// Serves RoutingService.
pub struct Routing {
    book: Arc<RuleBook>,
    limits: EventLimits,
}

impl Routing {
    /// A service over the rules.
    pub fn new(book: Arc<RuleBook>, limits: EventLimits) -> Self {
        Self { book, limits }
    }
}

#[tonic::async_trait]
impl RoutingService for Routing {
    async fn get_rules(&self, _: Request<proto::GetRulesRequest>) -> Result<Response<proto::GetRulesResponse>, Status> {
        let table = self.book.current();
        let source = self.book.file().map(|file| file.name()).unwrap_or_default();
        let response = proto::GetRulesResponse {
            revision: table.revision(),
            document: table.document().to_string(),
            source,
        };
        Ok(Response::new(response))
    }

    async fn validate_rules(
        &self,
        request: Request<proto::ValidateRulesRequest>,
    ) -> Result<Response<proto::ValidateRulesResponse>, Status> {
        let faults = self.book.validate(&request.into_inner().document).err();
        let faults = faults.map(|faults| faults_of(&faults)).unwrap_or_default();
        Ok(Response::new(proto::ValidateRulesResponse { faults }))
    }

    async fn apply_rules(
        &self,
        request: Request<proto::ApplyRulesRequest>,
    ) -> Result<Response<proto::ApplyRulesResponse>, Status> {
        let proto::ApplyRulesRequest {
            document,
            expected_revision,
        } = request.into_inner();
        let book = Arc::clone(&self.book);
        let applied = tokio::task::spawn_blocking(move || book.apply(&document, expected_revision)).await;
        let applied = applied.map_err(|error| Status::internal(format!("applying the rules failed: {error}")))?;
        let revision = self.book.current().revision();
        match applied {
            Ok(revision) => Ok(Response::new(proto::ApplyRulesResponse {
                revision,
                faults: Vec::new(),
            })),
            Err(ApplyError::Refused(faults)) => Ok(Response::new(proto::ApplyRulesResponse {
                revision,
                faults: faults_of(&faults),
            })),
            Err(error @ ApplyError::Stale { .. }) => Err(Refusal::new(FaultCode::RulesStale, error.to_string()).into()),
            Err(error @ ApplyError::NotSaved { .. }) => {
                Err(Refusal::new(FaultCode::RulesNotSaved, error.to_string()).into())
            }
        }
    }

    async fn explain_route(
        &self,
        request: Request<proto::ExplainRouteRequest>,
    ) -> Result<Response<proto::ExplainRouteResponse>, Status> {
        let event = Event::scan(request.into_inner().event).map_err(|error| Refusal::from(&error))?;
        event
            .validate(&self.limits, ValidationSource::Client)
            .map_err(|violations| Refusal::from(&violations))?;
        let response = explain::explain(&self.book.current(), &event)?;
        Ok(Response::new(response))
    }
}

fn faults_of(faults: &Faults) -> Vec<proto::RuleFault> {
    let fault = |fault: &meridian_runtime::Fault| proto::RuleFault {
        line: fault.line,
        column: fault.column,
        path: fault.path.clone(),
        message: fault.message.clone(),
    };
    faults.iter().map(fault).collect()
}
