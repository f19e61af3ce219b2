//! Keys that are made, wrapped, replaced, lost and damaged.

use super::*;

fn open(directory: &Path) -> Result<NodeKeys, NodeKeysError> {
    match NodeKeys::open_or_create(directory, None, 0)? {
        Opened::Open(keys) => Ok(keys),
        Opened::Locked(_) => panic!("it is locked"),
    }
}

fn locked(directory: &Path) -> LockedKeys {
    match NodeKeys::open_or_create(directory, None, 0).unwrap() {
        Opened::Locked(locked) => locked,
        Opened::Open(_) => panic!("it is open"),
    }
}

fn text(text: &str) -> KeyBytes {
    KeyBytes::new(text.as_bytes().to_vec())
}

#[test]
fn keys_are_made_once_and_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    let sealed = open(&keys).unwrap().sealer().seal(b"here", b"record").unwrap();

    let opened = open(&keys).unwrap().sealer().open(b"here", &sealed).unwrap();

    assert_eq!(opened.as_slice(), b"record");
    for (path, mode) in [(keys.clone(), 0o40700), (keys.join("kek"), 0o100_600), (keys.join("dek"), 0o100_600)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode(), mode);
    }
}

#[test]
fn missing_or_damaged_file_is_named_and_never_replaced() {
    let data = tempfile::tempdir().unwrap();
    let keys = data.path().join("keys");
    open(&keys).unwrap();
    fs::create_dir(data.path().join("store")).unwrap();
    for name in ["kek", "dek"] {
        let kept = fs::read(keys.join(name)).unwrap();

        fs::remove_file(keys.join(name)).unwrap();
        assert!(matches!(open(&keys), Err(NodeKeysError::Missing(path)) if path.ends_with(name)));
        for at in 0..kept.len() {
            let mut damaged = kept.clone();
            damaged[at] ^= 1;
            fs::write(keys.join(name), &damaged).unwrap();
            // One byte names the source: with another one, another key is asked for.
            let found = NodeKeys::open_or_create(&keys, None, 0);
            assert!(!matches!(found, Ok(Opened::Open(_))), "{name} {at}");
            fs::write(keys.join(name), &kept[..at]).unwrap();
            assert!(matches!(open(&keys), Err(NodeKeysError::Damaged(_))), "{name} cut at {at}");
        }
        fs::write(keys.join(name), &kept).unwrap();
    }
    assert!(open(&keys).is_ok());
}

#[test]
fn data_key_is_wrapped_by_one_source_after_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let mut keys = open(&path).unwrap();
    let sealed = keys.sealer().seal(b"here", b"record").unwrap();
    let first = fs::read(path.join("kek")).unwrap();
    let check = |keys: &NodeKeys| assert_eq!(keys.sealer().open(b"here", &sealed).unwrap().as_slice(), b"record");

    // A new file: the old one opens nothing.
    keys.rewrap(&Source::File).unwrap();
    check(&open(&path).unwrap());
    let second = fs::read(path.join("kek")).unwrap();
    fs::write(path.join("kek"), &first).unwrap();
    assert!(open(&path).is_err());
    fs::write(path.join("kek"), &second).unwrap();

    // An unlock key: nothing on the disk opens it.
    let key = || UnlockKey::from_bytes(&[7; 32]).unwrap();
    keys.rewrap(&Source::UnlockKey(key(), 3)).unwrap();
    assert!(!path.join("kek").exists() && keys.status().secure && keys.unlock_version() == Some(3));
    let (error, again) = locked(&path).unlock(&text("SCTLKEY-1-x")).unwrap_err();
    assert!(matches!(error, NodeKeysError::Parse(_)), "{error}");
    let other = UnlockKey::from_bytes(&[8; 32]).unwrap().expose_text();
    let (error, again) = again.unlock(&text(&other)).unwrap_err();
    assert_eq!(error.to_string(), "invalid key provided");
    check(&again.unlock(&text(&key().expose_text())).unwrap());

    // A passphrase.
    assert!(keys.rewrap(&Source::Passphrase(text("short"))).is_err());
    keys.rewrap(&Source::Passphrase(text("correct horse"))).unwrap();
    let (error, again) = locked(&path).unlock(&text("wrong horse")).unwrap_err();
    assert!(matches!(error, NodeKeysError::WrongKey), "{error}");
    check(&again.unlock(&text("correct horse")).unwrap());

    // A credential.
    let credential = || KeyBytes::new(vec![5; 32]);
    keys.rewrap(&Source::Credential(credential())).unwrap();
    let without = NodeKeys::open_or_create(&path, None, 0).unwrap_err();
    assert!(without.to_string().contains("it is not there"), "{without}");
    let other = NodeKeys::open_or_create(&path, Some(KeyBytes::new(vec![6; 32])), 0).unwrap_err();
    assert!(other.to_string().contains("is another"), "{other}");
    let Ok(Opened::Open(opened)) = NodeKeys::open_or_create(&path, Some(credential()), 0) else { panic!() };
    check(&opened);
}

#[test]
fn change_of_a_file_that_was_broken_off_is_brought_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let mut keys = open(&path).unwrap();
    let old = fs::read(path.join("kek")).unwrap();
    keys.rewrap(&Source::File).unwrap();
    // As if the process had ended before the last rename.
    fs::rename(path.join("kek"), path.join("kek.next")).unwrap();
    fs::write(path.join("kek"), &old).unwrap();

    assert!(open(&path).is_ok());
    assert!(!path.join("kek.next").exists());
    // And as if it had ended before `dek` was written.
    fs::write(path.join("kek.next"), &old).unwrap();
    assert!(open(&path).is_ok());
}

#[test]
fn old_key_file_is_wiped_whatever_replaces_it() {
    for source in [Source::File, Source::Passphrase(text("correct horse"))] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let mut keys = open(&path).unwrap();
        fs::hard_link(path.join("kek"), path.join("linked")).unwrap();

        keys.rewrap(&source).unwrap();

        assert!(fs::read(path.join("linked")).unwrap().iter().all(|byte| *byte == 0));
        assert!(!path.join("kek.next").exists());
    }
}

#[test]
fn change_that_cannot_be_finished_says_so_and_the_new_key_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let mut keys = open(&path).unwrap();
    let sealed = keys.sealer().seal(b"here", b"record").unwrap();
    let check = |keys: &NodeKeys| assert_eq!(keys.sealer().open(b"here", &sealed).unwrap().as_slice(), b"record");
    // A disk that does not take the last steps.
    let hinder = || {
        fs::remove_file(path.join("kek")).unwrap();
        fs::create_dir(path.join("kek")).unwrap();
    };
    hinder();

    // A file for a file: the new one is beside the old one's place, and another attempt does not write over it.
    let error = keys.rewrap(&Source::File).unwrap_err();
    assert!(matches!(error, NodeKeysError::Unfinished(_)) && error.to_string().contains("wrapped anew, but"));
    assert!(keys.rewrap(&Source::File).is_err());
    assert!(!matches!(keys.rewrap(&Source::File), Err(NodeKeysError::Unfinished(_))), "nothing was changed");
    keys.count().unwrap();
    fs::remove_dir(path.join("kek")).unwrap();
    check(&open(&path).unwrap());
    assert!(path.join("kek").exists() && !path.join("kek.next").exists());
    keys.rewrap(&Source::File).unwrap();
    check(&open(&path).unwrap());

    // An unlock key for a file.
    hinder();
    let key = || UnlockKey::from_bytes(&[7; 32]).unwrap();
    let error = keys.rewrap(&Source::UnlockKey(key(), 3)).unwrap_err();
    assert!(matches!(error, NodeKeysError::Unfinished(_)), "{error}");
    assert_eq!(keys.unlock_version(), Some(3));
    keys.count().unwrap();
    check(&locked(&path).unlock(&text(&key().expose_text())).unwrap());
    fs::remove_dir(path.join("kek")).unwrap();

    // Before that the old one counts.
    fs::create_dir(path.join("dek.new")).unwrap();
    let error = keys.rewrap(&Source::File).unwrap_err();
    assert!(matches!(error, NodeKeysError::Io { .. }), "{error}");
    assert_eq!(keys.unlock_version(), Some(3));
    fs::remove_dir(path.join("dek.new")).unwrap();
    keys.rewrap(&Source::Passphrase(text("correct horse"))).unwrap();
    assert!(!path.join("kek.next").exists(), "of the attempt");
}

#[test]
fn data_key_is_replaced_and_what_it_sealed_opens_until_it_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let mut keys = open(&path).unwrap();
    let sealer = keys.sealer();
    let old = sealer.seal(b"here", b"record").unwrap();
    keys.rewrap(&Source::Passphrase(text("correct horse"))).unwrap();

    keys.begin_data_key(77).unwrap();

    // With every source, though nobody types it; and after a restart at any moment.
    assert!(keys.has_older() && keys.data_key_made_at() == 77 && !sealer.is_newest(&old));
    let new = sealer.seal(b"here", b"record").unwrap();
    let mut again = locked(&path).unlock(&text("correct horse")).unwrap();
    assert!(again.has_older() && again.sealer().is_newest(&new));
    for sealed in [&old, &new] {
        assert_eq!(again.sealer().open(b"here", sealed).unwrap().as_slice(), b"record");
    }
    again.forget_older().unwrap();
    let last = locked(&path).unlock(&text("correct horse")).unwrap();
    assert!(!last.has_older() && last.sealer().open(b"here", &old).is_err());
    assert_eq!(last.sealer().open(b"here", &new).unwrap().as_slice(), b"record");
}

#[test]
fn data_key_counts_in_advance_and_is_due_when_it_has_sealed_enough() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let mut keys = open(&path).unwrap();
    assert_eq!(keys.due(), Due::Nothing);
    let mut again = open(&path).unwrap();
    assert_eq!(again.due(), Due::Count, "what was counted in advance may have been sealed");
    again.count().unwrap();
    assert_eq!(again.due(), Due::Nothing);

    keys.keys[0].before = MOST_SEALS - 1;
    keys.count().unwrap();
    assert_eq!(keys.due(), Due::Nothing);
    keys.sealer().seal(b"", b"").unwrap();
    assert_eq!(keys.due(), Due::Replacement);
    let mut reopened = open(&path).unwrap();
    assert_eq!(reopened.due(), Due::Replacement, "the count is in the file");
    reopened.begin_data_key(1).unwrap();
    assert_eq!(reopened.due(), Due::Nothing);
    drop(again);
}
