//! Completions and manual pages come from the command line's definition.

use crate::harness::sctl;

const NOWHERE: &str = "unix:///nonexistent";

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = sctl(NOWHERE, &["completion", shell], b"");

        assert!(script.code == Some(0) && script.stdout.contains("secret"), "{shell}: {script:?}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();

    let man = sctl(NOWHERE, &["man", &directory.path().to_string_lossy()], b"");

    assert_eq!(man.code, Some(0), "{man:?}");
    for page in ["sctl", "sctl-secret-create", "sctl-service-update", "sctl-exec", "sctl-image-pull"] {
        let text = std::fs::read_to_string(directory.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
}
