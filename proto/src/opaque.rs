//! Messages that hold keys: what is printed of them, and what is left of them in memory.

use std::fmt;

use zeroize::Zeroize;

use crate::v1;

include!(concat!(env!("OUT_DIR"), "/opaque.rs"));

impl Drop for v1::StoredCluster {
    fn drop(&mut self) {
        self.sealing_key.zeroize();
        self.authority_key.zeroize();
        self.unlock_key.zeroize();
    }
}

impl Drop for v1::StoredJoinSecret {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Drop for v1::AdmitNodeOp {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_with_keys_do_not_print_them() {
        let unlock = v1::UnlockRequest { key: b"hunter2".to_vec() };
        assert_eq!(format!("{unlock:?}"), "UnlockRequest(..)");
        let restore = v1::RestoreBegin { key: b"hunter2".to_vec(), ..v1::RestoreBegin::default() };
        let input = v1::RestoreInput { input: Some(v1::restore_input::Input::Begin(restore)) };
        assert_eq!(format!("{input:?}"), "RestoreInput { input: Some(Begin(RestoreBegin(..))) }");
    }
}
