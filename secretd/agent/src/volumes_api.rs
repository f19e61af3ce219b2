//! The Volumes service: the named volumes of the node that answers.

use std::sync::Arc;

use secretd_core::seam::volumes::{Volume, VolumeError, Volumes};
use secretd_core::wire::time_to_wire;
use secretd_proto::code::Code;
use secretd_proto::id::TaskId;
use secretd_proto::status::status as refused;
use secretd_proto::v1;
use secretd_proto::v1::volumes_server::{Volumes as VolumesService, VolumesServer};
use tonic::{Request, Response, Status};

/// Serves the volumes of this node.
#[derive(Debug, Clone)]
pub struct VolumesApi(Arc<dyn Volumes>);

impl VolumesApi {
    /// The service over the node's volumes.
    pub fn new(volumes: Arc<dyn Volumes>) -> Self {
        Self(volumes)
    }

    /// The same, to be served.
    pub fn server(volumes: Arc<dyn Volumes>) -> VolumesServer<Self> {
        VolumesServer::new(Self::new(volumes))
    }
}

#[tonic::async_trait]
impl VolumesService for VolumesApi {
    async fn create(
        &self,
        request: Request<v1::CreateVolumeRequest>,
    ) -> Result<Response<v1::CreateVolumeResponse>, Status> {
        let v1::CreateVolumeRequest { name, labels } = request.into_inner();
        let name = if name.is_empty() { TaskId::random().to_string() } else { name };
        let volume = self.0.create(&name, labels.into_iter().collect()).await.map_err(status)?;
        Ok(Response::new(v1::CreateVolumeResponse { volume: Some(to_wire(volume)) }))
    }

    async fn list(&self, _: Request<v1::ListVolumesRequest>) -> Result<Response<v1::ListVolumesResponse>, Status> {
        let volumes = self.0.list().await.map_err(status)?.into_iter().map(to_wire).collect();
        Ok(Response::new(v1::ListVolumesResponse { volumes }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveVolumeRequest>,
    ) -> Result<Response<v1::RemoveVolumeResponse>, Status> {
        self.0.remove(&request.into_inner().name).await.map_err(status)?;
        Ok(Response::new(v1::RemoveVolumeResponse {}))
    }
}

fn to_wire(volume: Volume) -> v1::Volume {
    v1::Volume {
        name: volume.name,
        labels: volume.labels.into_iter().collect(),
        mountpoint: volume.mountpoint,
        created_at: Some(time_to_wire(volume.created_at)),
        task_ids: volume.used_by.iter().map(ToString::to_string).collect(),
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn status(error: VolumeError) -> Status {
    let code = match &error {
        VolumeError::NotFound(_) => Code::NotFound,
        VolumeError::Name(_) => Code::InvalidArgument,
        VolumeError::InUse { .. } => Code::InUse,
        VolumeError::Node { .. } => Code::Internal,
    };
    refused(code, error.to_string())
}
