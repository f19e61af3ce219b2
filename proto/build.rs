//! Compiles the .proto files to Rust, without protoc.

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
    tonic_prost_build::configure().codec_path("crate::codec::Compact").compile_fds(descriptors)?;
    Ok(())
}
