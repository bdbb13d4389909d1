//! Messages between nodes, generated from proto/*.proto; `bytes` are [`bytes::Bytes`], never copied while decoding.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "the documentation of generated types is in proto/*.proto"
)]

mod codec;

pub use codec::{Buffered, FRAME_BUFFER_BYTES, PeerCodec};

/// What operators ask of a node (proto/admin.proto).
pub mod admin {
    include!(concat!(env!("OUT_DIR"), "/enfilade.admin.v1.rs"));
}

/// Links between nodes (proto/mesh.proto).
pub mod mesh {
    include!(concat!(env!("OUT_DIR"), "/enfilade.mesh.v1.rs"));
}

/// What is asked of owners, seconds and the keeper of leases (proto/owner.proto).
pub mod owner {
    include!(concat!(env!("OUT_DIR"), "/enfilade.owner.v1.rs"));
}

/// The registry's Raft group (proto/raft.proto).
pub mod raft {
    include!(concat!(env!("OUT_DIR"), "/enfilade.raft.v1.rs"));
}

/// Questions to the registry's leader (proto/registry.proto).
pub mod registry {
    include!(concat!(env!("OUT_DIR"), "/enfilade.registry.v1.rs"));
}
