//! All metrics of a node: those of its parts and those of its process, and the page docs/METRICS.md that names them.

use crate::gateway::{Backing, Gateway};
use enfilade_cluster::Cluster;
use enfilade_edge::Figures;
use enfilade_registry::Reader;
use enfilade_runtime::metrics::{Family, Page};
use enfilade_runtime::{Pressure, Step, usage};
use enfilade_session::Node;
use enfilade_upstream::Connector;
use std::fmt::Write;
use std::sync::Arc;
use tokio::runtime::Handle;

const BUILD: Family = Family::gauge("enfilade_build_info", "1, with the version that runs.").by("version");
const CPU: Family =
    Family::counter("process_cpu_seconds_total", "Processor time of the process, in user and system mode.");
const MEMORY: Family = Family::gauge("process_resident_memory_bytes", "Resident memory of the process.");
const MEMORY_MAX: Family = Family::gauge(
    "enfilade_process_memory_limit_bytes",
    "The smallest limit on memory of the control groups of the process; absent where there is none.",
);
const MEMORY_USED: Family = Family::gauge(
    "enfilade_memory_used_bytes",
    "Memory that cannot be given back at once: of the control group that is nearest to its limit, or of the process.",
);
const MEMORY_BOUND: Family = Family::gauge(
    "enfilade_memory_bound_bytes",
    "What that may be: the limit of the control group, or what the process is given.",
);
const MEMORY_STEP: Family = Family::gauge(
    "enfilade_memory_step",
    "What is refused for want of memory: 0 nothing, 1 new sessions and streams, 2 all but what gives memory back.",
);
const MEMORY_STEPS: Family =
    Family::counter("enfilade_memory_steps_total", "How often each of these steps was gone to, from above and below.")
        .by("step");
const DESCRIPTORS: Family = Family::gauge("process_open_fds", "Open file descriptors of the process.");
const DESCRIPTORS_MAX: Family = Family::gauge("process_max_fds", "File descriptors that the process may open.");
const TASKS: Family = Family::gauge(
    "enfilade_runtime_tasks",
    "Tasks that have not ended, by the threads that run them: main (clients and upstreams), control (leases, votes, gossip), \
     health (who asks here).",
)
.by("runtime");
const SESSIONS: Family = Family::gauge("enfilade_sessions", "Sessions in the registry, of all nodes.");
const LIVE: Family = Family::gauge("enfilade_owner_sessions_in_use", "Sessions in use on this node.");
const CALLS: Family = Family::gauge("enfilade_owner_calls_in_flight", "Calls of clients that this node runs.");
const LISTENERS: Family = Family::gauge("enfilade_owner_listeners", "Streams of clients that want notices.");
const RESOURCES: Family =
    Family::gauge("enfilade_owner_resources_watched", "Resources that somebody subscribed to, at this node.");
const NOTICES: Family = Family::counter(
    "enfilade_owner_notices_total",
    "Notices of changed lists and resources to streams of clients: taken, coalesced (of these, those in place of an unread one of \
     the same subject), dropped (old ones that nobody read).",
)
.by("became");
const UPSTREAM_CALLS: Family =
    Family::gauge("enfilade_upstream_calls_in_flight", "Calls that wait for an upstream.").by("upstream");
const UPSTREAM_OPEN: Family =
    Family::gauge("enfilade_upstream_breaker_open", "1 while an upstream is not called because it failed.")
        .by("upstream");
const UPSTREAM_PROCESSES: Family =
    Family::gauge("enfilade_upstream_processes", "Processes that run for an upstream.").by("upstream");
const UPSTREAM_DROPPED: Family = Family::counter(
    "enfilade_upstream_notices_dropped_total",
    "Notices of an upstream that were dropped because they were not taken in time.",
)
.by("upstream");
const SLOTS: Family = Family::gauge("enfilade_cluster_slots", "Slots of this node, by what it is for them.").by("part");
const LEASE: Family = Family::gauge("enfilade_cluster_lease_seconds", "How long this node may still act.");
const LEADS: Family = Family::gauge("enfilade_registry_leader", "1 on the node that leads the registry.");
const MEMBERS: Family = Family::gauge("enfilade_cluster_members", "Members as this node sees them.").by("link");

/// Those of this crate.
const FAMILIES: [&Family; 25] = [
    &BUILD,
    &CPU,
    &MEMORY,
    &MEMORY_MAX,
    &MEMORY_USED,
    &MEMORY_BOUND,
    &MEMORY_STEP,
    &MEMORY_STEPS,
    &DESCRIPTORS,
    &DESCRIPTORS_MAX,
    &TASKS,
    &SESSIONS,
    &LIVE,
    &CALLS,
    &LISTENERS,
    &RESOURCES,
    &NOTICES,
    &UPSTREAM_CALLS,
    &UPSTREAM_OPEN,
    &UPSTREAM_PROCESSES,
    &UPSTREAM_DROPPED,
    &SLOTS,
    &LEASE,
    &LEADS,
    &MEMBERS,
];

/// Where the numbers of a node that serves come from.
pub(crate) struct Sources {
    /// Nothing when the node has not the role.
    edge: Option<Figures>,
    node: Arc<Node>,
    connectors: Vec<Arc<Connector>>,
    registry: Arc<dyn Reader>,
    cluster: Option<Arc<Cluster>>,
    runtimes: Vec<(&'static str, Handle)>,
}

impl Sources {
    /// Needs the runtime that the gateway was built on.
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let mut runtimes = vec![("main", Handle::current())];
        let (registry, cluster): (Arc<dyn Reader>, _) = match &gateway.backing {
            Backing::Alone(alone) => (alone.registry(), None),
            Backing::Member(member) => {
                runtimes.push(("control", member.control()));
                (member.registry(), Some(member.cluster()))
            }
        };
        let edge = gateway.edge.as_ref().map(|edge| edge.figures.clone());
        Self { edge, node: gateway.node.clone(), connectors: gateway.connectors.clone(), registry, cluster, runtimes }
    }

    /// One more runtime of the process.
    pub(crate) fn and(mut self, runtime: &'static str, handle: Handle) -> Self {
        self.runtimes.push((runtime, handle));
        self
    }
}

/// The text for Prometheus. A node that does not serve yet has its process only.
pub(crate) fn text(sources: Option<&Sources>, pressure: &Pressure) -> String {
    let mut page = Page::default();
    process(&mut page, pressure);
    if let Some(sources) = sources {
        let tasks = |(name, runtime): &(&'static str, Handle)| (*name, runtime.metrics().num_alive_tasks());
        page.values(&TASKS, sources.runtimes.iter().map(tasks));
        if let Some(edge) = &sources.edge {
            edge.write(&mut page);
        }
        owner(&mut page, sources);
        if let Some(cluster) = &sources.cluster {
            member(&mut page, cluster);
        }
    }
    page.finish()
}

fn process(page: &mut Page, pressure: &Pressure) {
    page.values(&BUILD, [(env!("CARGO_PKG_VERSION"), 1)]);
    if let Some(time) = usage::processor_time() {
        page.value(&CPU, time.as_secs_f64());
    }
    if let Some(bytes) = usage::resident_bytes() {
        page.value(&MEMORY, bytes);
    }
    if let Some(bytes) = usage::memory_limit_bytes() {
        page.value(&MEMORY_MAX, bytes);
    }
    if let Some(memory) = pressure.memory() {
        page.value(&MEMORY_USED, memory.used_bytes);
        page.value(&MEMORY_BOUND, memory.max_bytes);
    }
    page.value(&MEMORY_STEP, pressure.step() as u8);
    page.values(&MEMORY_STEPS, Step::ALL.map(Step::as_str).into_iter().zip(pressure.changes()));
    if let Some((open, most)) = usage::descriptors() {
        page.value(&DESCRIPTORS, open);
        page.value(&DESCRIPTORS_MAX, most);
    }
}

fn owner(page: &mut Page, sources: &Sources) {
    let (listeners, resources) = sources.node.subscriptions();
    page.value(&SESSIONS, sources.registry.counts().sessions);
    page.value(&LIVE, sources.node.sessions());
    page.value(&CALLS, sources.node.in_flight());
    page.value(&LISTENERS, listeners);
    page.value(&RESOURCES, resources);
    let told = sources.node.announced();
    let became = [("taken", told.delivered), ("coalesced", told.coalesced), ("dropped", told.dropped)];
    page.values(&NOTICES, became);
    // Names of upstreams have no characters that are escaped (configuration).
    let upstreams = &sources.connectors;
    page.values(&UPSTREAM_CALLS, upstreams.iter().map(|one| (one.name(), one.in_flight())));
    page.values(&UPSTREAM_OPEN, upstreams.iter().map(|one| (one.name(), u8::from(one.is_open()))));
    page.values(&UPSTREAM_PROCESSES, upstreams.iter().map(|one| (one.name(), one.processes())));
    page.values(&UPSTREAM_DROPPED, upstreams.iter().map(|one| (one.name(), one.notifications_dropped())));
}

fn member(page: &mut Page, cluster: &Cluster) {
    let status = cluster.status();
    let slots = [("owned", status.slots_owned), ("serving", status.slots_serving), ("second", status.slots_second)];
    page.values(&SLOTS, slots);
    page.value(&LEASE, status.lease_left_ms as f64 / 1000.0);
    page.value(&LEADS, u8::from(status.is_leader));
    let linked = status.members.iter().filter(|member| member.is_linked).count();
    page.values(&MEMBERS, [("up", linked), ("down", status.members.len() - linked)]);
}

/// The page docs/METRICS.md.
pub(crate) fn markdown() -> String {
    let mut page = include_str!("metrics_head.md").to_owned();
    let all = enfilade_edge::FAMILIES.into_iter().chain(FAMILIES);
    for Family { name, kind, help, label } in all {
        let label = label.map(|label| format!("`{label}`")).unwrap_or_default();
        let _ = writeln!(page, "| `{name}` | {} | {label} | {help} |", kind.as_str()); // Never fails.
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_page_in_docs_is_what_the_code_says() {
        let written = include_str!("../../../docs/METRICS.md");
        assert!(written == markdown(), "docs/METRICS.md is not what the code says; run: make docs");
    }

    #[test]
    fn names_are_ours_or_those_that_every_process_has_and_say_their_unit() {
        let all: Vec<_> = enfilade_edge::FAMILIES.into_iter().chain(FAMILIES).collect();
        let names: BTreeSet<_> = all.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), all.len(), "twice the same name");
        for family in all {
            let is_counter = family.kind == enfilade_runtime::metrics::Kind::Counter;
            assert_eq!(family.name.ends_with("_total"), is_counter, "{}", family.name);
            assert!(family.name.starts_with("enfilade_") || family.name.starts_with("process_"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['|', '\n', '\\']), "{}", family.help);
        }
    }

    #[test]
    fn a_process_that_does_not_serve_yet_shows_itself() {
        let text = text(None, &Pressure::default());
        assert!(text.contains("process_resident_memory_bytes ") && !text.contains("enfilade_sessions"), "{text}");
    }
}
