//! Where a service's tasks may run, and how they are spread.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::node::Node;

/// Where tasks may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// All of them must hold.
    pub constraints: Vec<Constraint>,
    /// Tasks are spread over the values of the first one, within each over those of the next, and so on.
    pub preferences: Vec<NodeKey>,
    /// Of a replicated service, so many tasks on a node at the most; 0 is any number.
    pub max_replicas_per_node: u64,
}

impl Placement {
    /// Whether a node satisfies every constraint.
    pub fn allows(&self, node: &Node) -> bool {
        self.constraints.iter().all(|constraint| constraint.holds(node))
    }
}

/// What can be asked of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKey {
    /// `node.id`
    Id,
    /// `node.hostname`
    Hostname,
    /// `node.role`: `manager` or `worker`
    Role,
    /// `node.platform.os`
    Os,
    /// `node.platform.arch`, in Go's words or the kernel's
    Arch,
    /// `node.labels.KEY`: what operators gave
    Label(String),
    /// `engine.labels.KEY`: what the node's own configuration says
    EngineLabel(String),
}

/// A rule for nodes: `KEY==VALUE` or `KEY!=VALUE`. Values are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// What is compared.
    pub key: NodeKey,
    /// Whether it must be equal.
    pub equal: bool,
    /// With what.
    pub value: String,
}

/// Why a text is no constraint, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseConstraintError {
    /// It has no operator.
    #[error("constraint expected one operator from ==, !=: `{0}`")]
    Operator(String),
    /// Nodes have nothing of that name.
    #[error(
        "key '{0}' is invalid: give node.id, node.hostname, node.role, node.platform.os, node.platform.arch, node.labels.KEY or engine.labels.KEY"
    )]
    Key(String),
    /// The value cannot be one.
    #[error("value '{0}' is invalid: letters, digits and -_./:@+ alone, and not empty")]
    Value(String),
}

impl NodeKey {
    /// The node's value; empty where it has none.
    pub fn value<'a>(&self, node: &'a Node) -> Cow<'a, str> {
        let description = &node.description;
        Cow::Borrowed(match self {
            Self::Id => return Cow::Owned(node.id.to_string()),
            Self::Hostname => &description.hostname,
            Self::Role if node.manager => "manager",
            Self::Role => "worker",
            Self::Os => &description.os,
            Self::Arch => &description.architecture,
            Self::Label(key) => node.labels.get(key).map_or("", String::as_str),
            Self::EngineLabel(key) => description.engine_labels.get(key).map_or("", String::as_str),
        })
    }

    fn is(&self, node: &Node, value: &str) -> bool {
        let wanted = if *self == Self::Arch { in_go(value) } else { value };
        self.value(node).eq_ignore_ascii_case(wanted)
    }
}

/// The kernel's name of an architecture, as Go says it.
fn in_go(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Constraint {
    /// Whether a node satisfies it.
    pub fn holds(&self, node: &Node) -> bool {
        self.key.is(node, &self.value) == self.equal
    }
}

impl FromStr for NodeKey {
    type Err = ParseConstraintError;
    fn from_str(text: &str) -> Result<Self, ParseConstraintError> {
        let invalid = || ParseConstraintError::Key(text.to_owned());
        let label = |key: &str| if key.is_empty() { Err(invalid()) } else { Ok(key.to_owned()) };
        Ok(match text {
            "node.id" => Self::Id,
            "node.hostname" => Self::Hostname,
            "node.role" => Self::Role,
            "node.platform.os" => Self::Os,
            "node.platform.arch" => Self::Arch,
            _ => match (text.strip_prefix("node.labels."), text.strip_prefix("engine.labels.")) {
                (Some(key), _) => Self::Label(label(key)?),
                (_, Some(key)) => Self::EngineLabel(label(key)?),
                (None, None) => return Err(invalid()),
            },
        })
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("node.id"),
            Self::Hostname => f.write_str("node.hostname"),
            Self::Role => f.write_str("node.role"),
            Self::Os => f.write_str("node.platform.os"),
            Self::Arch => f.write_str("node.platform.arch"),
            Self::Label(key) => write!(f, "node.labels.{key}"),
            Self::EngineLabel(key) => write!(f, "engine.labels.{key}"),
        }
    }
}

impl FromStr for Constraint {
    type Err = ParseConstraintError;
    fn from_str(text: &str) -> Result<Self, ParseConstraintError> {
        let (key, equal, value) = match (text.split_once("=="), text.split_once("!=")) {
            (Some((key, value)), None) => (key, true, value),
            (None, Some((key, value))) => (key, false, value),
            (_, _) => return Err(ParseConstraintError::Operator(text.to_owned())),
        };
        let value = value.trim();
        let fits = |character: char| character.is_alphanumeric() || " -_./:@+".contains(character);
        if value.is_empty() || !value.chars().all(fits) {
            return Err(ParseConstraintError::Value(value.to_owned()));
        }
        Ok(Self { key: key.trim().parse()?, equal, value: value.to_owned() })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.key, if self.equal { "==" } else { "!=" }, self.value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secretd_proto::id::NodeId;

    use super::*;
    use crate::node::{Availability, NodeDescription, NodeState};
    use crate::time::{Meta, Version};

    fn node() -> Node {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Node {
            id: NodeId::from_random([0; 16]),
            meta: Meta::default(),
            labels: labels(&[("ssd", "true")]),
            availability: Availability::Active,
            manager: true,
            state: NodeState::Ready,
            message: String::new(),
            address: String::new(),
            description: NodeDescription {
                hostname: "Alpha".to_owned(),
                os: "linux".to_owned(),
                architecture: "amd64".to_owned(),
                engine_labels: labels(&[("rack", "7")]),
                ..NodeDescription::default()
            },
            spec_version: Version::default(),
            certificate: None,
        }
    }

    #[test]
    fn constraints_hold_as_docker_has_them() {
        for (text, holds) in [
            ("node.id==0000000000000000000000000", true),
            ("node.hostname == alpha", true),
            ("node.hostname!=alpha", false),
            ("node.role==manager", true),
            ("node.role != manager", false),
            ("node.platform.os==linux", true),
            ("node.platform.arch==x86_64", true),
            ("node.platform.arch==AMD64", true),
            ("node.platform.arch==arm64", false),
            ("node.labels.ssd==TRUE", true),
            ("node.labels.zone!=a", true),
            ("node.labels.zone==a", false),
            ("engine.labels.rack==7", true),
        ] {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(constraint.holds(&node()), holds, "{text}");
            assert_eq!(constraint.to_string().parse::<Constraint>().unwrap(), constraint);
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused() {
        let error = |text: &str| text.parse::<Constraint>().unwrap_err().to_string();
        assert!(error("node.role=manager").starts_with("constraint expected one operator from ==, !="));
        assert!(error("node.role==a!=b").starts_with("constraint expected one operator"));
        assert!(error("foo==bar").starts_with("key 'foo' is invalid"));
        assert!(error("node.labels.==bar").starts_with("key 'node.labels.' is invalid"));
        assert!(error("node.role==").starts_with("value '' is invalid"));
        assert!(error("node.role==a;b").starts_with("value 'a;b' is invalid"));
    }
}
