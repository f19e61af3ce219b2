//! A read has everything that anybody had been told of when it began.
//!
//! Every state has a version, and the same entries give the same state: so it is enough that no read is older than what
//! was acknowledged or read before it began.

use super::{Invariant, News, Sight};

#[derive(Debug, Default)]
pub(super) struct Linearizable;

impl Invariant for Linearizable {
    fn name(&self) -> &'static str {
        "reads are linearizable"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for news in sight.news {
            if let News::Read { node, floor, version } = news
                && version < floor
            {
                return Err(format!("node {node} answered a read with version {version} after {floor} was known"));
            }
        }
        Ok(())
    }
}
