//! An operator's command as a caller of a node: with the cluster's keys, over the node's link, as a member of nothing.

use crate::Failure;
use crate::cli::{NodeOptions, Reach, Sources};
use crate::keys;
use anyhow::Context;
use bytes::Bytes;
use enfilade_mesh::{CallError, CallFailed, CallKind, Exchange, Mesh, Open, Serve};
use enfilade_proto::admin::{Reply, Request, reply, request};
use enfilade_registry::{BoxFuture, Generation, NodeId, Run};
use prost::Message;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The kind of call that an operator's command makes.
pub(crate) const ADMIN: CallKind = CallKind(1100);

/// For a question whose answer takes no work.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A node, reached over its link.
pub(crate) struct Remote {
    mesh: Mesh,
    address: String,
}

impl Remote {
    /// Prepares to call the node that the options mean; it is called with the first question.
    ///
    /// # Errors
    /// Options or configuration do not say where it is, or the keys cannot be read.
    pub(crate) fn new(reach: &Reach) -> Result<Self, Failure> {
        let (address, keys_dir) = place(reach)?;
        let keys = keys::read(&keys_dir)?;
        let run = Run { node: NodeId(crate::data::random().context("no random bytes")?), generation: Generation(1) };
        let mut config = enfilade_mesh::Config::new(run);
        config.tls = Some(keys.tls);
        // Nobody is told of it.
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no socket")?;
        let mesh = Mesh::start(config, socket, Arc::new(Nobody)).context("links cannot start")?;
        Ok(Self { mesh, address })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The node cannot be reached, or refuses; it says why.
    pub(crate) async fn ask(&self, kind: request::Kind, within: Duration) -> anyhow::Result<reply::Kind> {
        let body = Request { kind: Some(kind) }.encode_to_vec();
        let answer = self.mesh.call_address(&self.address, ADMIN, body.into(), within).await;
        let answer = answer.map_err(|failed| match failed {
            CallFailed::NotSent => anyhow::anyhow!("no connection to {}: wrong address, or other keys", self.address),
            CallFailed::Refused(CallError::Unsupported) => {
                anyhow::anyhow!(
                    "{} does not serve yet, has not the role registry, or is of another release",
                    self.address
                )
            }
            other => anyhow::anyhow!("{}: {other}", self.address),
        })?;
        match Reply::decode(answer).context("the answer cannot be understood")?.kind {
            Some(reply::Kind::Refused(why)) => Err(anyhow::anyhow!("refused: {why}")),
            Some(kind) => Ok(kind),
            None => Err(strange()),
        }
    }
}

/// What is said of an answer to another question.
pub(crate) fn strange() -> anyhow::Error {
    anyhow::anyhow!("the node answers in a way that this version does not understand")
}

/// The node's address and the folder with the keys.
fn place(reach: &Reach) -> Result<(String, PathBuf), Failure> {
    let sources = Sources { config: reach.config.clone(), ..Sources::default() };
    let section = match &reach.config {
        Some(_) => crate::load_node(&sources, &NodeOptions::default(), Vec::new())?.cluster,
        None => None,
    };
    let address = match (&reach.node, &section) {
        (Some(node), _) => node.clone(),
        (None, Some(section)) if section.link.port() != 0 => near(section.link).to_string(),
        _ => return Err(anyhow::anyhow!("say which node: --node HOST:PORT of its links, or its --config").into()),
    };
    let keys = reach.keys.clone().or(section.and_then(|section| section.keys));
    Ok((address, keys.context("say where the cluster's keys are: --keys DIR, or a node's --config")?))
}

/// Where a node on this machine that listens there is reached.
fn near(bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port())) } else { bound }
}

/// Serves nothing: nobody knows of a command.
struct Nobody;

impl Serve for Nobody {
    fn exchange(&self, _: Run, _: Open, exchange: Exchange) {
        drop(exchange);
    }

    fn call(&self, _: Run, _: CallKind, _: Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(std::future::ready(Err(CallError::Unsupported)))
    }
}
