//! A call that is under way, from the client's side of it: answered at once, streamed, or left by its client.

use crate::call::Plan;
use crate::live::Entered;
use crate::node::Node;
use crate::run::{self, First};
use crate::stream::Stream;
use futures::future::BoxFuture;
use std::sync::Arc;

/// A call that is under way. Dropping it before its end is what a broken connection does: a modern call is cancelled,
/// a legacy one runs on without a reader.
pub(super) struct Going<'a> {
    node: &'a Node,
    plan: Arc<Plan>,
    entered: Option<Entered>,
    first: Option<Pending>,
}

impl<'a> Going<'a> {
    pub(super) fn new(node: &'a Node, plan: Arc<Plan>, entered: Entered) -> Self {
        let mut going = Self::modern(node, plan);
        going.entered = Some(entered);
        going
    }

    pub(super) fn modern(node: &'a Node, plan: Arc<Plan>) -> Self {
        let shared = plan.clone();
        let first: Pending = Box::pin(async move { run::first(&shared).await });
        Self { node, plan, entered: None, first: Some(first) }
    }

    pub(super) async fn first(&mut self) -> First {
        match self.first.as_mut() {
            Some(first) => first.await,
            None => First::Cancelled,
        }
    }

    /// The call has ended. It counts as in flight for as long as what is returned lives.
    pub(super) fn done(&mut self) -> Option<Entered> {
        self.first = None;
        self.entered.take()
    }

    /// The rest of the call runs by itself and writes into `stream`.
    pub(super) fn go_on(&mut self, first: Option<First>, stream: Arc<Stream>) {
        let pending = self.first.take();
        let entered = self.entered.take();
        let plan = self.plan.clone();
        // It can be gone on with elsewhere from now on.
        entered.iter().filter(|_| stream.is_kept()).for_each(Entered::streams);
        self.node.tasks.spawn(async move {
            // Finishes the stream however this task ends, or a client would wait for ever.
            let closing = Closing { plan: plan.clone(), stream: stream.clone() };
            let run = to_the_end(&plan, first, pending, &stream);
            if plan.live().is_some() {
                run.await;
            } else {
                tokio::select! {
                    () = run => {}
                    // The client of a modern call went away: that cancels it.
                    () = stream.abandoned() => run::abandon(&plan),
                }
            }
            drop(closing);
            drop(entered);
        });
    }
}

type Pending = BoxFuture<'static, First>;

async fn to_the_end(plan: &Arc<Plan>, first: Option<First>, pending: Option<Pending>, stream: &Arc<Stream>) {
    let first = match (first, pending) {
        (Some(first), _) => first,
        (None, Some(pending)) => pending.await,
        (None, None) => First::Cancelled,
    };
    run::go_on(plan, first, stream).await;
}

struct Closing {
    plan: Arc<Plan>,
    stream: Arc<Stream>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        match self.plan.live() {
            // The slot is another node's, where what is open here is ended for its client: it must not be told as complete.
            Some(_) if self.plan.is_lost() => self.stream.finish(),
            Some(live) => live.streams().close(&self.stream),
            None => self.stream.finish(),
        }
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if self.first.is_none() {
            return;
        }
        if let Some(live) = self.plan.live() {
            let stream = live.streams().open(vec![self.plan.open_call()]);
            self.plan.outlet.open(&stream);
            self.go_on(None, stream);
        } else if !self.plan.drop_cancels() {
            run::abandon(&self.plan);
        }
    }
}
