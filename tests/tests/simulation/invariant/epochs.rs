//! A grant that is made anew has a greater epoch: so an older one that comes late is refused by secret-fs.

use super::{Invariant, Sight};
use crate::part::Part;

#[derive(Debug, Default)]
pub(super) struct Epochs;

impl Invariant for Epochs {
    fn name(&self) -> &'static str {
        "epochs fence grants"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for worker in sight.workers {
            let Part::Worker { mount, .. } = &worker.part else { continue };
            if let Some(wrong) = mount.wrong() {
                return Err(wrong);
            }
        }
        Ok(())
    }
}
