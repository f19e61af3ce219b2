//! Services: what users want to run.

use std::sync::Arc;

use futures::stream;
use prost::Message;
use secretd_core::node::{Availability, Node, NodeState};
use secretd_core::service::{Service, ServiceMode, ServiceSpec, UpdateState, UpdateStatus};
use secretd_core::task::{Task, TaskState};
use secretd_proto::code::Code;
use secretd_proto::id::ServiceId;
use secretd_proto::v1;
use secretd_store::{Change, Conflict, Event, Op, ProposeError, View, Watch};

use super::{Context, Messages};
use crate::audit::record;
use crate::caller::Caller;
use crate::filter::Filters;
use crate::natural;
use crate::random_name;
use crate::reference::{Kind, resolve};
use crate::refusal::Refusal;
use crate::validate::secret::Known;
use crate::validate::service::{check, check_kept};

/// Tries to find a free name for a service that was given none.
const NAME_ATTEMPTS: u32 = 10;

pub(super) async fn create_service(
    context: &Context,
    peer: Option<Caller>,
    request: v1::CreateServiceRequest,
) -> Result<v1::CreateServiceResponse, Refusal> {
    context.view()?;
    let spec = request.spec.ok_or_else(|| Refusal::invalid("the service has no specification"))?;
    let id = ServiceId::random();
    let outcome = if spec.name.is_empty() {
        create_with_random_name(context, id, spec).await
    } else {
        create_named(context, id, spec).await.map_err(Refusal::from)
    };
    record(peer, "service.create", id, outcome)?;
    Ok(v1::CreateServiceResponse { service: to_wire(&context.store.view(), id), warnings: vec![] })
}

/// Each task has a copy of its specification, and each node one of each of its tasks.
const MAX_SPEC_LENGTH: usize = 256 * 1024;

fn check_size(spec: &v1::ServiceSpec) -> Result<(), Refusal> {
    let length = spec.encoded_len();
    if length <= MAX_SPEC_LENGTH {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "the service's specification has {length} bytes, and at most {MAX_SPEC_LENGTH} are allowed: put large values into \
         a secret, the image or a volume"
    )))
}

enum CreateError {
    Refused(Refusal),
    Propose(ProposeError),
}

impl From<CreateError> for Refusal {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Refused(refusal) => refusal,
            CreateError::Propose(error) => error.into(),
        }
    }
}

async fn create_named(context: &Context, id: ServiceId, spec: v1::ServiceSpec) -> Result<(), CreateError> {
    let view = context.view().map_err(CreateError::Refused)?;
    check_size(&spec).map_err(CreateError::Refused)?;
    let spec = ServiceSpec::try_from(spec).map_err(|error| CreateError::Refused(error.into()))?;
    check_spec(&view, &spec).map_err(CreateError::Refused)?;
    context.store.propose(vec![Op::CreateService { id, spec }]).await.map(drop).map_err(CreateError::Propose)
}

async fn create_with_random_name(context: &Context, id: ServiceId, spec: v1::ServiceSpec) -> Result<(), Refusal> {
    for attempt in 0.. {
        let random = *ServiceId::random().as_bytes();
        let named = v1::ServiceSpec { name: random_name::name(random, attempt), ..spec.clone() };
        match create_named(context, id, named).await {
            Err(CreateError::Propose(ProposeError::Conflict(Conflict::NameTaken { .. })))
                if attempt < NAME_ATTEMPTS => {}
            outcome => return outcome.map_err(Refusal::from),
        }
    }
    Ok(())
}

pub(super) async fn update_service(
    context: &Context,
    peer: Option<Caller>,
    request: v1::UpdateServiceRequest,
) -> Result<v1::UpdateServiceResponse, Refusal> {
    let view = context.view()?;
    let service = find(&view, &request.id)?;
    let id = service.id;
    let outcome = async {
        let expect = secretd_core::time::Version(request.version);
        if service.meta.version != expect {
            return Err(Conflict::OutOfSequence { id, expected: expect, actual: service.meta.version }.into());
        }
        let (spec, update_status) = match (request.rollback, request.spec) {
            (true, None) => rolled_back(context, service)?,
            (true, Some(_)) => return Err(Refusal::invalid("other flags may not be combined with --rollback")),
            (false, Some(spec)) => {
                check_size(&spec)?;
                let spec = ServiceSpec::try_from(spec)?;
                let status = (spec.task != service.spec.task).then(|| begun(context));
                (spec, status)
            }
            (false, None) => return Err(Refusal::invalid("the service has no specification")),
        };
        check_kept(&service.spec, &spec).map_err(Refusal::invalid)?;
        check_spec(&view, &spec)?;
        let previous_spec = Some(service.spec.clone());
        let op = Op::UpdateService { id, expect, spec, previous_spec, update_status };
        context.store.propose(vec![op]).await.map_err(Refusal::from)
    };
    record(peer, "service.update", id, outcome.await)?;
    Ok(v1::UpdateServiceResponse { service: to_wire(&context.store.view(), id), warnings: vec![] })
}

/// Said at once, so that nobody who looks takes the old tasks for the new ones.
pub(super) fn begun(context: &Context) -> UpdateStatus {
    UpdateStatus {
        state: UpdateState::Updating,
        started_at: context.now(),
        completed_at: None,
        message: "update in progress".to_owned(),
    }
}

/// The previous specification, to be exchanged with the present one.
fn rolled_back(context: &Context, service: &Service) -> Result<(ServiceSpec, Option<UpdateStatus>), Refusal> {
    let none =
        || Refusal::new(Code::InvalidArgument, format!("service {} does not have a previous spec", service.spec.name));
    let spec = service.previous_spec.clone().ok_or_else(none)?;
    let status = UpdateStatus {
        state: UpdateState::RollbackStarted,
        started_at: context.now(),
        completed_at: None,
        message: "manually requested rollback".to_owned(),
    };
    Ok((spec, Some(status)))
}

fn check_spec(view: &View, spec: &ServiceSpec) -> Result<(), Refusal> {
    let known = |id, name: &_| {
        let secret = view.secret(&id).filter(|secret| secret.spec.name == *name)?;
        Some(Known { latest: secret.version.0 })
    };
    check(spec, known).map_err(Refusal::invalid)
}

pub(super) fn get_service(
    context: &Context,
    request: &v1::GetServiceRequest,
) -> Result<v1::GetServiceResponse, Refusal> {
    let view = context.view()?;
    let service = find(&view, &request.reference)?;
    Ok(v1::GetServiceResponse { service: Some(Service::clone(service).into()) })
}

pub(super) fn list_services(
    context: &Context,
    request: v1::ListServicesRequest,
) -> Result<v1::ListServicesResponse, Refusal> {
    let view = context.view()?;
    let filters = Filters::parse(request.filters, &["id", "label", "mode", "name"])?;
    let chosen = view.services().filter(|service| {
        filters.prefix("id", &service.id.to_string())
            && filters.prefix("name", service.spec.name.as_str())
            && filters.exact("mode", mode(service))
            && filters.labels("label", &service.spec.labels)
    });
    let mut services: Vec<v1::ServiceSummary> = chosen.map(|service| summary(&view, service)).collect();
    services.sort_by(|a, b| natural::compare(name(a), name(b)));
    Ok(v1::ListServicesResponse { services })
}

fn name(summary: &v1::ServiceSummary) -> &str {
    summary.service.as_ref().and_then(|of| of.spec.as_ref()).map_or("", |spec| spec.name.as_str())
}

fn mode(service: &Service) -> &'static str {
    match service.spec.mode {
        ServiceMode::Replicated { .. } => "replicated",
        ServiceMode::Global => "global",
    }
}

/// How many tasks a service is to have.
fn desired(view: &View, service: &Service) -> u64 {
    let ServiceMode::Replicated { replicas } = service.spec.mode else {
        let placement = &service.spec.task.placement;
        let holds = |node: &Node| {
            let is_there = |task: &Arc<Task>| task.node_id == Some(node.id) && task.desired_state <= TaskState::Running;
            match node.availability {
                Availability::Active => true,
                Availability::Pause => view.tasks_of_service(&service.id).any(is_there),
                Availability::Drain => false,
            }
        };
        let nodes = view.nodes().filter(|node| node.state != NodeState::Down && placement.allows(node));
        return nodes.filter(|node| holds(node)).count() as u64;
    };
    replicas
}

fn summary(view: &View, service: &Arc<Service>) -> v1::ServiceSummary {
    let running = view
        .tasks_of_service(&service.id)
        .filter(|task| task.status.state == TaskState::Running && task.desired_state <= TaskState::Running);
    v1::ServiceSummary {
        running: running.count() as u64,
        desired: desired(view, service),
        service: Some(Service::clone(service).into()),
    }
}

pub(super) async fn remove_service(
    context: &Context,
    peer: Option<Caller>,
    request: v1::RemoveServiceRequest,
) -> Result<v1::RemoveServiceResponse, Refusal> {
    let id = find(&context.view()?, &request.reference)?.id;
    let outcome = context.store.propose(vec![Op::RemoveService { id }]).await;
    record(peer, "service.remove", id, outcome.map_err(Refusal::from))?;
    Ok(v1::RemoveServiceResponse { id: id.to_string() })
}

/// The service that a reference means.
pub(super) fn find<'a>(view: &'a View, reference: &str) -> Result<&'a Arc<Service>, Refusal> {
    let candidates = view.services().map(|service| (service.id, service.spec.name.as_str(), service));
    resolve(Kind::Service, reference, candidates)
}

fn to_wire(view: &View, id: ServiceId) -> Option<v1::Service> {
    view.service(&id).map(|service| Service::clone(service).into())
}

/// The service and its tasks, again after every change, until it is removed and its tasks are gone.
pub(super) fn watch_service(
    context: &Context,
    request: &v1::WatchServiceRequest,
) -> Result<Messages<v1::WatchServiceResponse>, Refusal> {
    context.view()?;
    let (view, watch) = context.store.view_and_watch();
    let id = find(&view, &request.id)?.id;
    let watching = Watching { id, watch, first: Some(snapshot(&view, id)), over: false };
    Ok(Box::pin(stream::unfold(watching, |mut watching| async {
        let message = watching.next().await?;
        Some((Ok(message), watching))
    })))
}

struct Watching {
    id: ServiceId,
    watch: Watch,
    first: Option<v1::WatchServiceResponse>,
    /// Whether the last message said that nothing is left.
    over: bool,
}

impl Watching {
    async fn next(&mut self) -> Option<v1::WatchServiceResponse> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.over {
            return None;
        }
        let mut change = self.watch.next().await?;
        let mut concerned = concerns(&change, self.id);
        loop {
            // All changes that are there make one message.
            if let Some(newer) = self.watch.try_next() {
                concerned |= concerns(&newer, self.id);
                change = newer;
            } else if concerned {
                break;
            } else {
                change = self.watch.next().await?;
                concerned = concerns(&change, self.id);
            }
        }
        let message = snapshot(&change.view, self.id);
        self.over = message.service.is_none() && message.tasks.is_empty();
        Some(message)
    }
}

fn snapshot(view: &View, id: ServiceId) -> v1::WatchServiceResponse {
    let tasks = view.tasks_of_service(&id).map(|task| Task::clone(task).into()).collect();
    let desired = view.service(&id).map_or(0, |service| desired(view, service));
    v1::WatchServiceResponse { service: to_wire(view, id), tasks, desired }
}

fn concerns(change: &Change, id: ServiceId) -> bool {
    change.events.iter().any(|event| match event {
        Event::ServiceCreated(service) | Event::ServiceRemoved(service) => service.id == id,
        Event::ServiceUpdated { new, .. } => new.id == id,
        Event::TaskCreated(task) | Event::TaskRemoved(task) => task.service_id == id,
        Event::TaskUpdated { new, .. } => new.service_id == id,
        Event::ClusterCreated(_)
        | Event::ClusterUpdated { .. }
        | Event::NodeRemoved(_)
        | Event::SecretCreated(_)
        | Event::SecretUpdated { .. }
        | Event::SecretRemoved(_)
        | Event::NodeCreated(_)
        | Event::NodeUpdated { .. } => false,
    })
}
