//! Links the compiler's unwinder into the binary, so that the release needs glibc and nothing else.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo::rustc-link-arg-bins=-L{}/../secretd/packaging/link", env!("CARGO_MANIFEST_DIR"));
    }
}
