//! The volumes service, as sctl calls it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use secretd_agent::volumes_api::VolumesApi;
use secretd_core::fake::volumes::FakeVolumes;
use secretd_core::seam::volumes::Volumes;
use secretd_proto::code::METADATA_KEY;
use secretd_proto::v1;
use secretd_proto::v1::volumes_server::Volumes as _;
use tonic::{Request, Status};

use crate::harness::task_id;

/// Calls need no connection: the service is a value.
fn code(status: &Status) -> &str {
    status.metadata().get(METADATA_KEY).map_or("none", |code| code.to_str().unwrap())
}

#[tokio::test]
async fn volumes_are_made_once_listed_and_kept_while_they_are_used() {
    let volumes = FakeVolumes::default();
    let api = VolumesApi::new(Arc::new(volumes.clone()));
    let create = |label: &str| {
        let labels = HashMap::from([("team".to_owned(), label.to_owned())]);
        Request::new(v1::CreateVolumeRequest { name: "data".to_owned(), labels })
    };
    let remove = |name: &str| Request::new(v1::RemoveVolumeRequest { name: name.to_owned() });

    let made = api.create(create("a")).await.unwrap().into_inner().volume.unwrap();
    let again = api.create(create("b")).await.unwrap().into_inner().volume.unwrap();
    assert_eq!((&made, made.labels["team"].as_str()), (&again, "a"));
    let unnamed = api.create(Request::new(v1::CreateVolumeRequest::default())).await.unwrap().into_inner();
    assert_eq!(api.list(Request::new(v1::ListVolumesRequest {})).await.unwrap().into_inner().volumes.len(), 2);

    volumes.use_by("data", task_id(1));
    assert_eq!(code(&api.remove(remove("data")).await.unwrap_err()), "in-use");
    api.remove(remove(&unnamed.volume.unwrap().name)).await.unwrap();
    assert_eq!(code(&api.remove(remove("none")).await.unwrap_err()), "not-found");
    let wrong = v1::CreateVolumeRequest { name: "../x".to_owned(), labels: HashMap::new() };
    assert_eq!(code(&api.create(Request::new(wrong)).await.unwrap_err()), "invalid-argument");
    assert!(volumes.create("kept", BTreeMap::new()).await.is_ok());
}
