//! Certificates say what the authority was told, whatever the request says.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, SanType};
use secretd_proto::id::NodeId;

use super::*;
use crate::identity::{OperatorRole, Subject};
use crate::key::NodeKey;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);
const DAY: Duration = Duration::from_hours(24);

fn cluster() -> ClusterId {
    ClusterId::from_random([7; 16])
}

fn node(role: NodeRole) -> Subject {
    Subject { cluster: cluster(), identity: Identity::Node { id: NodeId::from_random([1; 16]), role } }
}

#[test]
fn certificates_are_for_whom_the_authority_was_told() {
    let authority = Authority::generate(cluster(), NOW).unwrap();
    let operator = Identity::Operator { name: "mia".to_owned(), role: OperatorRole::Viewer };
    for subject in [node(NodeRole::Manager), node(NodeRole::Worker), Subject { cluster: cluster(), identity: operator }]
    {
        let request = NodeKey::generate().unwrap().request().unwrap();

        let issued = authority.issue(&request, &subject, DAY, NOW).unwrap();

        assert_eq!(Subject::of(&issued).unwrap(), subject);
        let validity = Validity::of(&issued).unwrap();
        assert_eq!(
            (NOW.0 - validity.not_before.0, validity.not_after.0 - NOW.0),
            (3_600_000_000_000, 86_400_000_000_000)
        );
    }
}

#[test]
fn request_cannot_ask_for_another_name_or_more_rights() {
    let authority = Authority::generate(cluster(), NOW).unwrap();
    let key = NodeKey::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "somebody");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.subject_alt_names = vec![SanType::DnsName("manager.secretd".try_into().unwrap())];
    let request = params.serialize_request(&key.0).unwrap().der().to_vec();

    let subject = node(NodeRole::Worker);
    if let Ok(issued) = authority.issue(&request, &subject, DAY, NOW) {
        assert_eq!(Subject::of(&issued).unwrap(), subject);
        let parsed = parse(&issued).unwrap();
        assert!(!parsed.is_ca());
        let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        assert_eq!(names, [x509_parser::extensions::GeneralName::DNSName("worker.secretd")]);
    }
    let mut damaged = NodeKey::generate().unwrap().request().unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(authority.issue(&damaged, &subject, DAY, NOW), Err(IssueError::Request));
}

#[test]
fn certificate_does_not_outlive_the_root() {
    let authority = Authority::generate(cluster(), NOW).unwrap();
    let request = NodeKey::generate().unwrap().request().unwrap();
    let later = after(NOW, ROOT_VALIDITY - DAY);

    let issued = authority.issue(&request, &node(NodeRole::Worker), 10 * DAY, later).unwrap();

    assert_eq!(Validity::of(&issued).unwrap().not_after, Validity::of(authority.certificate()).unwrap().not_after);
    let after_end = after(NOW, ROOT_VALIDITY + DAY);
    let refused = authority.issue(&request, &node(NodeRole::Worker), DAY, after_end);
    assert_eq!(refused, Err(IssueError::RootExpired));
}

#[test]
fn authority_is_kept_and_taken_up_again() {
    let authority = Authority::generate(cluster(), NOW).unwrap();
    let again = Authority::from_parts(authority.certificate(), &authority.expose_key()).unwrap();

    assert_eq!(again.digest(), authority.digest());
    let other = Authority::generate(cluster(), NOW).unwrap();
    assert!(Authority::from_parts(authority.certificate(), &other.expose_key()).is_err());
    assert!(!format!("{authority:?}").contains("PRIVATE"));
}
