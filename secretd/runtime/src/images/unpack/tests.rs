//! Archives that try to get out, and what honest ones become.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use tar::{Builder, Header};

use super::*;

fn header(kind: EntryType, path: &[u8]) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1000);
    // The name is written as it is: the builder of the library would refuse a hostile one.
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header
}

#[derive(Clone, Copy)]
enum Made<'a> {
    Dir(&'a str),
    File(&'a str, &'a [u8]),
    Symlink(&'a str, &'a str),
    Hard(&'a str, &'a str),
    Node(&'a str),
}

fn archive(entries: &[Made<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for made in entries {
        let (mut header, bytes): (Header, &[u8]) = match made {
            Made::Dir(path) => (header(EntryType::Directory, path.as_bytes()), b""),
            Made::File(path, bytes) => (header(EntryType::Regular, path.as_bytes()), bytes),
            Made::Node(path) => (header(EntryType::Char, path.as_bytes()), b""),
            Made::Symlink(path, to) | Made::Hard(path, to) => {
                let kind = if matches!(made, Made::Symlink(..)) { EntryType::Symlink } else { EntryType::Link };
                let mut header = header(kind, path.as_bytes());
                header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
                (header, b"")
            }
        };
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Unpacks into `root/in`, beside which lies `root/outside` with a file that nobody may touch.
fn unpacked(entries: &[Made<'_>], max: u64) -> (tempfile::TempDir, Result<u64, UnpackError>) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("in")).unwrap();
    std::fs::create_dir(root.path().join("outside")).unwrap();
    std::fs::write(root.path().join("outside/kept"), "kept").unwrap();
    let fd = rustix::fs::open(root.path().join("in"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let result = unpack(archive(entries).as_slice(), &fd, max);
    let outside: Vec<_> = std::fs::read_dir(root.path().join("outside")).unwrap().collect();
    assert_eq!(outside.len(), 1, "something was made outside");
    assert_eq!(std::fs::read(root.path().join("outside/kept")).unwrap(), b"kept");
    assert!(std::fs::read_dir(root.path()).unwrap().count() == 2, "something was made beside the root");
    (root, result)
}

#[test]
fn paths_that_climb_are_refused_and_absolute_ones_stay_inside() {
    for path in ["../outside/x", "a/../../outside/x", ".."] {
        assert!(matches!(unpacked(&[Made::File(path, b"x")], 100).1, Err(UnpackError::Escape { .. })), "{path}");
    }
    let (root, result) = unpacked(&[Made::File("/etc/x", b"x"), Made::File("./y", b"yy")], 100);
    assert_eq!(result.unwrap(), 3);
    assert_eq!(std::fs::read(root.path().join("in/etc/x")).unwrap(), b"x");
}

#[test]
fn links_of_the_archive_lead_nowhere_outside() {
    for target in ["../outside", "/outside", "../../../../../../../../outside"] {
        let (root, _) = unpacked(&[Made::Symlink("link", target), Made::File("link/x", b"x")], 100);
        assert!(std::fs::symlink_metadata(root.path().join("in/link")).unwrap().is_symlink());
    }
    let (_root, result) = unpacked(&[Made::Hard("x", "../outside/kept"), Made::File("x", b"changed")], 100);
    assert!(result.is_err());
    let (root, result) = unpacked(&[Made::Symlink("x", "/outside/kept"), Made::File("x", b"changed")], 100);
    assert_eq!(result.unwrap(), 7, "a file replaces a link of its name");
    assert_eq!(std::fs::read(root.path().join("in/x")).unwrap(), b"changed");
}

#[test]
fn file_below_a_file_is_refused() {
    let (_root, result) = unpacked(&[Made::File("a", b"x"), Made::File("a/b", b"x")], 100);

    assert!(matches!(result, Err(UnpackError::Escape { .. })), "{result:?}");
}

#[test]
fn whiteouts_become_overlayfs_ones() {
    let (root, result) =
        unpacked(&[Made::Dir("d"), Made::File("d/.wh.gone", b""), Made::File("d/.wh..wh..opq", b"")], 100);

    result.unwrap();
    let gone = std::fs::symlink_metadata(root.path().join("in/d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(root.path().join("in/d"), "trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
    assert!(unpacked(&[Made::File(".wh...", b"")], 100).1.is_err());
}

#[test]
fn devices_are_refused_but_left_out_below_dev() {
    assert!(matches!(unpacked(&[Made::Node("sda")], 100).1, Err(UnpackError::Device { .. })));
    let (root, result) = unpacked(&[Made::Dir("dev"), Made::Node("dev/null")], 100);
    assert!(result.is_ok() && std::fs::read_dir(root.path().join("in/dev")).unwrap().count() == 0);
}

#[test]
fn what_is_too_large_empty_or_no_archive_is_refused() {
    assert!(matches!(unpacked(&[Made::File("x", &[0; 200])], 100).1, Err(UnpackError::TooLarge { .. })));
    assert!(matches!(unpacked(&[], 100).1, Err(UnpackError::Empty)));
    let root = tempfile::tempdir().unwrap();
    let fd = rustix::fs::open(root.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    assert!(unpack(&[7; 2000][..], &fd, 100).is_err());
}

#[test]
fn modes_owners_times_and_hard_links_are_kept() {
    let mut builder = Builder::new(Vec::new());
    let mut setuid = header(EntryType::Regular, b"su");
    setuid.set_mode(0o4755);
    setuid.set_uid(12);
    setuid.set_gid(34);
    setuid.set_cksum();
    builder.append(&setuid, &b""[..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    let root = tempfile::tempdir().unwrap();
    let fd = rustix::fs::open(root.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    unpack(bytes.as_slice(), &fd, 100).unwrap();
    let made = std::fs::metadata(root.path().join("su")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid(), made.gid(), made.mtime()), (0o4755, 12, 34, 1000));

    let (root, result) = unpacked(&[Made::Dir("d"), Made::File("d/a", b"x"), Made::Hard("b", "d/a")], 100);
    result.unwrap();
    let inode = |path: &str| std::fs::metadata(root.path().join(path)).unwrap().ino();
    assert_eq!(inode("in/d/a"), inode("in/b"));
    assert_eq!(std::fs::metadata(root.path().join("in/d")).unwrap().mtime(), 1000);
}

#[test]
fn directory_that_is_a_link_already_is_replaced_not_followed() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("in")).unwrap();
    std::fs::create_dir(root.path().join("outside")).unwrap();
    symlink("../outside", root.path().join("in/d")).unwrap();
    let fd = rustix::fs::open(root.path().join("in"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();

    unpack(archive(&[Made::Dir("d"), Made::File("d/x", b"x")]).as_slice(), &fd, 100).unwrap();

    assert_eq!(std::fs::read(root.path().join("in/d/x")).unwrap(), b"x");
    assert_eq!(std::fs::read_dir(root.path().join("outside")).unwrap().count(), 0);
}
