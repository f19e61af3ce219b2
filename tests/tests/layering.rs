//! Who may import whom, read from `cargo metadata`: the table of docs/architecture.md.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// A crate and the crates of this workspace that it may import in production.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("secretd-proto", &[]),
    ("secretd-sys", &[]),
    ("secretd-core", &["secretd-proto"]),
    ("secretd-sealing", &["secretd-proto"]),
    ("secretd-ca", &["secretd-proto", "secretd-core"]),
    ("secretd-store", &["secretd-proto", "secretd-core", "secretd-sys", "secretd-sealing"]),
    ("secretd-runtime", &["secretd-proto", "secretd-core", "secretd-sys", "secretd-sealing"]),
    ("secret-fs", &["secretd-proto", "secretd-sys", "secretd-sealing"]),
    ("secretd-manager", &["secretd-proto", "secretd-core", "secretd-ca", "secretd-store", "secretd-sealing"]),
    ("secretd-agent", &["secretd-proto", "secretd-core"]),
    ("secret-cli", &["secretd-proto", "secretd-core", "secretd-sealing", "secretd-ca"]),
];

/// A library that only one crate may name.
const OWNED: &[(&str, &[&str])] = &[
    ("openraft", &["secretd-store"]),
    ("redb", &["secretd-store"]),
    ("fuser", &["secret-fs"]),
    ("libcontainer", &["secretd-runtime"]),
    ("oci-client", &["secretd-runtime"]),
    ("hpke", &["secretd-sealing"]),
    ("aes-gcm", &["secretd-sealing"]),
    ("clap", &["secretd", "secret-cli"]),
    ("rcgen", &["secretd-ca"]),
    ("x509-parser", &["secretd-ca"]),
];

/// Crates in the production tree of secret-fs, those that only run in the compiler left out.
const SECRET_FS_TREE: usize = 60;

/// Packages in the lock file.
const LOCKED: usize = 480;

fn metadata() -> Result<Metadata> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    Ok(MetadataCommand::new().manifest_path(manifest).other_options(["--locked".to_owned()]).exec()?)
}

fn production(package: &Package) -> impl Iterator<Item = &str> {
    package.dependencies.iter().filter(|on| on.kind == DependencyKind::Normal).map(|on| on.name.as_str())
}

#[test]
fn crates_import_only_what_the_table_allows() -> Result<()> {
    let metadata = metadata()?;
    let ours: BTreeSet<String> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();

    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        if ["secretd", "secretd-tests"].contains(&name) {
            continue; // the binary names every implementation, and the tests drive everything
        }
        let (_, allowed) =
            MAY_IMPORT.iter().find(|(from, _)| *from == name).with_context(|| format!("{name} is not in the table"))?;
        for on in production(package).filter(|on| ours.contains(*on)) {
            ensure!(allowed.contains(&on), "{name} imports {on}");
        }
    }
    for package in metadata.workspace_packages() {
        ensure!(!production(package).any(|on| on == "secretd"), "{} imports the daemon's binary", package.name);
    }
    Ok(())
}

#[test]
fn libraries_with_an_owner_are_named_by_it_alone() -> Result<()> {
    for package in metadata()?.workspace_packages() {
        for (library, owners) in OWNED {
            let names = production(package).any(|on| on == *library);
            ensure!(!names || owners.contains(&package.name.as_str()), "{} names {library}", package.name);
        }
    }
    Ok(())
}

#[test]
fn every_crate_inherits_the_lints() -> Result<()> {
    for package in metadata()?.workspace_packages() {
        let manifest: toml::Table = std::fs::read_to_string(&package.manifest_path)?.parse()?;
        let lints = manifest.get("lints").with_context(|| format!("{} has no lints", package.name))?;
        let inherited = lints.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        ensure!(inherited || package.name.as_str() == "secretd-sys", "{} does not inherit the lints", package.name);
    }
    Ok(())
}

#[test]
fn each_direct_dependency_has_its_reason() -> Result<()> {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))?;
    let section = manifest.split("[workspace.dependencies]").nth(1).context("no dependencies")?;
    let section = section.split("\n[").next().context("no dependencies")?;

    for line in section.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let reason = line.rsplit_once(" # ").map(|(_, reason)| reason).unwrap_or_default();
        ensure!(reason.len() > 8, "no reason for a dependency: {line}");
    }
    for package in metadata()?.workspace_packages() {
        let manifest: toml::Table = std::fs::read_to_string(&package.manifest_path)?.parse()?;
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in manifest.get(table).and_then(toml::Value::as_table).into_iter().flatten() {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                ensure!(inherited, "{}: {name} is not inherited from the workspace", package.name);
            }
        }
    }
    Ok(())
}

#[test]
fn trees_stay_small_enough_to_be_read() -> Result<()> {
    let metadata = metadata()?;
    ensure!(
        metadata.packages.len() <= LOCKED,
        "{} packages are locked, at most {LOCKED} may be",
        metadata.packages.len()
    );

    // Not from the metadata: that has the features of the whole workspace together.
    let arguments =
        ["tree", "--locked", "--package=secret-fs", "--edges=normal,no-proc-macro", "--prefix=none", "--format={p}"];
    let tree =
        std::process::Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    ensure!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout)?;
    let names: BTreeSet<&str> =
        text.lines().map(|line| line.trim_end_matches(" (*)").trim()).filter(|line| !line.is_empty()).collect();
    ensure!(names.len() <= SECRET_FS_TREE, "secret-fs has {} crates: {names:?}", names.len());
    Ok(())
}

#[test]
fn no_crate_is_under_a_licence_that_binds_ours() -> Result<()> {
    for package in metadata()?.packages {
        let licence = package.license.clone().unwrap_or_default();
        let free =
            licence.split(" OR ").chain(licence.split('/')).any(|choice| !choice.contains("GPL") && !choice.is_empty());
        ensure!(free || package.license_file.is_some(), "{} is under `{licence}`", package.name);
    }
    Ok(())
}
