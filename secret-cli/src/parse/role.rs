//! What a node is in a cluster.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Manager,
}

impl Role {
    pub(crate) fn is_manager(self) -> bool {
        self == Self::Manager
    }

    pub(crate) fn word(self) -> &'static str {
        if self.is_manager() { "manager" } else { "worker" }
    }
}

pub(crate) fn parse(text: &str) -> Result<Role, String> {
    match text {
        "worker" => Ok(Role::Worker),
        "manager" => Ok(Role::Manager),
        _ => Err(format!("unknown role {text}: only worker and manager are supported")),
    }
}
