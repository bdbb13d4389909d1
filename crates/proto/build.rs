//! Generates the types of proto/*.proto with a compiler written in Rust: no `protoc` is needed.

use std::path::Path;

/// One module each in `src/lib.rs`; a file without messages gives an empty module.
const FILES: [&str; 5] = ["admin.proto", "mesh.proto", "owner.proto", "raft.proto", "registry.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Relative to this package, where build scripts run: a checkout may move, or share its target directory.
    let root = Path::new("../../proto");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.display());
    let out = std::env::var("OUT_DIR")?;
    for file in FILES {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
        let package = format!("enfilade.{}.v1.rs", file.trim_end_matches(".proto"));
        let generated = Path::new(&out).join(package);
        std::fs::write(&generated, "")?;
        let descriptors = protox::compile([root.join(file)], [root])?;
        tonic_prost_build::configure()
            .build_transport(false)
            .bytes(".")
            .codec_path("crate::PeerCodec")
            .emit_rerun_if_changed(false)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
