//! The sockets of a node towards other nodes: bound before anything is started, and told to whoever started it.

use crate::announce;
use crate::config::Cluster;
use anyhow::Context;
use std::net::{SocketAddr, TcpListener};
use tokio::net::UdpSocket;

/// Bound, and not served yet.
pub(super) struct Links {
    pub(super) link: TcpListener,
    pub(super) gossip: UdpSocket,
    /// `HOST:PORT` that others are told.
    pub(super) link_told: String,
    pub(super) gossip_told: SocketAddr,
}

/// Binds both.
///
/// # Errors
/// An address is taken, or is not this machine's.
pub(super) async fn bind(cluster: &Cluster) -> anyhow::Result<Links> {
    let cannot = |what, at| move || format!("cannot listen at {at} for {what}");
    let link = TcpListener::bind(cluster.link).with_context(cannot("links", cluster.link))?;
    let gossip = UdpSocket::bind(cluster.gossip).await.with_context(cannot("gossip", cluster.gossip))?;
    let (link_at, gossip_at) = (link.local_addr()?, gossip.local_addr()?);
    announce::bound("link", link_at);
    announce::bound("gossip", gossip_at);
    Ok(Links {
        link,
        gossip,
        link_told: cluster.link_advertise.clone().unwrap_or_else(|| link_at.to_string()),
        gossip_told: cluster.gossip_advertise.unwrap_or(gossip_at),
    })
}
