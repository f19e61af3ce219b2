//! Compiles the .proto files to Rust, without protoc.

/// Messages with keys, passphrases or tokens: nothing of them is printed, by mistake or on purpose.
#[cfg(feature = "grpc")]
const OPAQUE: [&str; 15] = [
    "AdmitRequest",
    "BackupRequest",
    "BackupBegin",
    "UpdateClusterResponse",
    "GetJoinTokenResponse",
    "GetUnlockKeyResponse",
    "RotateAuthorityRequest",
    "InitClusterResponse",
    "RestoreBegin",
    "JoinClusterRequest",
    "UnlockRequest",
    "RekeyRequest",
    "StoredCluster",
    "StoredJoinSecret",
    "AdmitNodeOp",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "grpc")]
    generate()?;
    Ok(())
}

#[cfg(feature = "grpc")]
fn generate() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["admission", "types", "control", "dispatcher", "image", "local", "raft", "store", "volume"]
        .map(|name| format!("secretd/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let opaque = OPAQUE.map(|message| format!("secretd.v1.{message}"));
    tonic_prost_build::configure().codec_path("crate::codec::Compact").skip_debug(&opaque).compile_fds(descriptors)?;
    // What is printed of them is their name.
    let shown = OPAQUE.map(|message| {
        let (own, print) = (format!("v1::{message}"), "fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result");
        format!("impl fmt::Debug for {own} {{ {print} {{ f.write_str(\"{message}(..)\") }} }}\n")
    });
    let directory = std::env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?;
    std::fs::write(std::path::Path::new(&directory).join("opaque.rs"), shown.concat())?;
    Ok(())
}
