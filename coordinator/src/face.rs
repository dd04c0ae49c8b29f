//! The gRPC face: checks what a call says, asks the event loop, answers.

use std::time::Duration;

use artel_proto::convert::{malformed, refused};
use artel_proto::v1::coordinator_server::Coordinator;
use artel_proto::{PROTOCOL, v1};
use tonic::{Request, Response, Status};

use crate::core::{HEARTBEAT, Input, LEASE, NewWorker, RankPart};
use crate::event_loop::{Gone, Handle};

/// How long a worker's question for work waits before it is answered with nothing.
const LONG_POLL: Duration = Duration::from_secs(5);

/// What the face needs to answer.
pub(crate) struct Face {
    pub handle: Handle,
    pub store_url: String,
    pub spec_json: String,
}

impl From<Gone> for Status {
    fn from(_: Gone) -> Self {
        Status::unavailable("the coordinator is ending")
    }
}

#[tonic::async_trait]
impl Coordinator for Face {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        let worker = request.into_inner();
        if worker.protocol != PROTOCOL {
            return Err(refused(format!(
                "the worker (artel {}) speaks protocol {}, the coordinator (artel {}) {PROTOCOL}; run the same version everywhere",
                worker.version,
                worker.protocol,
                env!("CARGO_PKG_VERSION")
            )));
        }
        if worker.collective_address.parse::<std::net::SocketAddr>().is_err() {
            return Err(malformed(format!("{:?} is not an address that other ranks could reach", worker.collective_address)));
        }
        let facts = NewWorker {
            incarnation: worker.incarnation,
            name: worker.name,
            pid: worker.pid,
            host: worker.host,
            kernel_path: worker.kernel_path,
            collective_address: worker.collective_address,
            num_gpus: worker.num_gpus as usize,
        };
        let worker_id = self.handle.register(facts).await?.map_err(refused)?;
        Ok(Response::new(v1::RegisterResponse {
            worker_id,
            heartbeat_ms: HEARTBEAT.as_millis() as u32,
            lease_ms: LEASE.as_millis() as u32,
            store_url: self.store_url.clone(),
            spec_json: self.spec_json.clone(),
        }))
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Result<Response<v1::HeartbeatResponse>, Status> {
        Ok(Response::new(self.handle.heartbeat(request.into_inner()).await?.map_err(refused)?))
    }

    async fn saved_part(&self, request: Request<v1::SavedPartRequest>) -> Result<Response<v1::SavedPartResponse>, Status> {
        let v1::SavedPartRequest { worker_id, generation, step, parts, history, num_values, stall_ms } = request.into_inner();
        let parts: Result<Vec<_>, String> = parts.into_iter().map(TryInto::try_into).collect();
        let history = history.map(TryInto::try_into).transpose().map_err(malformed)?;
        let part = RankPart { generation, step, parts: parts.map_err(malformed)?, history, num_values, stall_ms };
        let whole = self.handle.saved_part(worker_id, part).await?.map_err(refused)?;
        Ok(Response::new(v1::SavedPartResponse { whole }))
    }

    async fn permit(&self, request: Request<v1::PermitRequest>) -> Result<Response<v1::PermitResponse>, Status> {
        Ok(Response::new(self.handle.permit(request.into_inner()).await?))
    }

    async fn next_task(&self, request: Request<v1::NextTaskRequest>) -> Result<Response<v1::NextTaskResponse>, Status> {
        let poll = self.handle.poll(request.into_inner());
        let task = match tokio::time::timeout(LONG_POLL, poll).await {
            Ok(answer) => answer?.map_err(refused)?,
            Err(_) => None,
        };
        Ok(Response::new(v1::NextTaskResponse { task }))
    }

    async fn complete_task(
        &self,
        request: Request<v1::CompleteTaskRequest>,
    ) -> Result<Response<v1::CompleteTaskResponse>, Status> {
        let v1::CompleteTaskRequest { worker_id, task_id, result } = request.into_inner();
        let result = result.ok_or_else(|| malformed("a completed task must say what came of it"))?;
        self.handle.tell(Input::Done { worker: worker_id, task: task_id, result }).await?;
        Ok(Response::new(v1::CompleteTaskResponse {}))
    }

    async fn fail_task(&self, request: Request<v1::FailTaskRequest>) -> Result<Response<v1::FailTaskResponse>, Status> {
        let request = request.into_inner();
        let kind = request.kind();
        let v1::FailTaskRequest { worker_id, task_id, message, .. } = request;
        self.handle.tell(Input::TaskFailed { worker: worker_id, task: task_id, kind, message }).await?;
        Ok(Response::new(v1::FailTaskResponse {}))
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Result<Response<v1::ReportResponse>, Status> {
        let request = request.into_inner();
        let report = request.report.ok_or_else(|| malformed("an empty report"))?;
        self.handle.tell(Input::Reported { worker: request.worker_id, report }).await?;
        Ok(Response::new(v1::ReportResponse {}))
    }
}
