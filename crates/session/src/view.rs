//! One virtual server as clients see it: the merged lists of its upstreams under the names it gives them.
//!
//! A merged list is rebuilt only when one of its parts differs; pages and look-ups are served from it.

use crate::ask::IMPLEMENTATION;
use crate::config::{Limits, ServerConfig};
use crate::lists::{List, ListKind};
use crate::site::{Profile, Site};
use crate::viewer::{Scope, Viewer};
use enfilade_mcp::cursor::{CursorKey, Position};
use enfilade_mcp::names::NameTable;
use enfilade_mcp::names::Prefix;
use enfilade_mcp::uris::{Clash, UriTable};
use enfilade_mcp::{Era, RpcError, Splice, Version, json, translate};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which lists a merged one was made of.
type Stamps = Vec<Option<u64>>;

/// Most merged lists that are kept, of all kinds and scopes.
const MERGED_MAX: usize = 1_024;

/// Items of one list of a virtual server.
#[derive(Debug)]
pub(crate) struct Merged {
    stamps: Stamps,
    /// Every item as clients see it, with its upstream and its key there.
    entries: Vec<Entry>,
    /// Until when it is fresh; none when it is stale at once.
    fresh_until: Option<Instant>,
    private: bool,
}

#[derive(Debug)]
struct Entry {
    text: Arc<str>,
    /// The same for clients of legacy revisions, where it must differ.
    legacy: Option<Arc<str>>,
    site: usize,
    key: Arc<str>,
}

pub(crate) struct View {
    pub(crate) config: ServerConfig,
    /// The upstreams, in the order of the configuration.
    pub(crate) sites: Vec<Arc<Site>>,
    /// Their indexes among all upstreams of the node.
    pub(crate) indexes: Arc<[usize]>,
    names: Vec<String>,
    clash: Clash,
    tools: Mutex<NameTable>,
    prompts: Mutex<NameTable>,
    uris: Mutex<Arc<UriTable>>,
    merged: Mutex<HashMap<(ListKind, Scope), Arc<Merged>>>,
    cursors: CursorKey,
    limits: Limits,
}

/// Where a name or URI leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index among the upstreams of this server.
    pub(crate) site: usize,
    /// The name or URI as the upstream knows it.
    pub(crate) original: String,
}

impl View {
    pub(crate) fn new(config: ServerConfig, sites: Vec<Arc<Site>>, cursors: CursorKey, limits: Limits) -> Self {
        let names: Vec<String> = sites.iter().map(|site| site.name().to_owned()).collect();
        let clash = match Prefix::from(config.prefix) {
            Prefix::OnConflict => Clash::FirstKeeps,
            Prefix::Always | Prefix::Never => Clash::Qualify,
        };
        let table = || Mutex::new(NameTable::new(config.prefix.into(), &names));
        Self {
            indexes: sites.iter().map(|site| site.index).collect(),
            tools: table(),
            prompts: table(),
            uris: Mutex::new(Arc::new(UriTable::new(&names, clash))),
            merged: Mutex::default(),
            clash,
            cursors,
            limits,
            names,
            config,
            sites,
        }
    }

    /// The only upstream, where names and unknown methods pass unchanged.
    pub(crate) fn single(&self) -> Option<&Arc<Site>> {
        match &self.sites[..] {
            [site] => Some(site),
            _ => None,
        }
    }

    /// What `initialize` or `server/discover` declares (BRIDGE.md 8): one upstream mirrored, several all that they may
    /// come to offer.
    pub(crate) async fn capabilities(&self, era: Era) -> String {
        const ALL: &str = concat!(
            r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"#,
            r#""resources":{"listChanged":true,"subscribe":true},"completions":{},"logging":{}"#
        );
        let wait = Duration::from_millis(self.limits.list_wait_ms);
        let Some(site) = self.single() else {
            let tasks = era == Era::Modern
                && self
                    .sites
                    .iter()
                    .any(|site| site.up().is_some_and(|up| up.profile.declares(&["extensions", TASKS])));
            let extensions = if tasks { format!(r#","extensions":{{"{TASKS}":{{}}}}"#) } else { String::new() };
            return format!("{ALL}{extensions}}}");
        };
        match site.wait_up(wait).await {
            Ok(up) => mirror(&up.profile, era),
            Err(_) => format!("{ALL}}}"),
        }
    }

    /// Instructions of all upstreams that are up, under their names; a JSON string.
    pub(crate) fn instructions(&self) -> Option<String> {
        let of = |site: &Arc<Site>| site.up().and_then(|up| up.profile.instructions.clone());
        if let Some(site) = self.single() {
            return of(site);
        }
        let parts: Vec<String> = self
            .sites
            .iter()
            .filter_map(|site| Some(format!("## {}\n\n{}", site.name(), json::string(&of(site)?)?)))
            .collect();
        (!parts.is_empty()).then(|| json::quote(&parts.join("\n\n")))
    }

    /// The list of one upstream, waited for as long as it is of use: others are not kept waiting, but where there is
    /// one alone it is waited for.
    async fn part(&self, site: &Arc<Site>, kind: ListKind, viewer: &Viewer) -> Option<Arc<List>> {
        let indispensable = self.single().is_some() && site.last(kind, viewer).is_none();
        let wait = if indispensable { site.deadline() } else { Duration::from_millis(self.limits.list_wait_ms) };
        let until = tokio::time::Instant::now() + wait;
        if !site.was_reached() {
            // A node that has only just started does not know yet what its upstreams offer.
            let _ = site.wait_up(wait).await;
        }
        site.list_until(until, kind, viewer).await
    }

    /// Brings one list up to date; upstreams that are down or late are left out and announced when they come.
    pub(crate) async fn list(&self, kind: ListKind, viewer: &Viewer) -> Arc<Merged> {
        let parts = self.sites.iter().map(|site| self.part(site, kind, viewer));
        let lists = futures::future::join_all(parts).await;
        let mut stamps: Stamps = lists.iter().map(|list| list.as_ref().map(|list| list.stamp)).collect();
        if let Some(other) = other_uris(kind) {
            // How a URI is issued depends on both lists.
            stamps.extend(self.sites.iter().map(|site| site.last(other, viewer).map(|list| list.stamp)));
        }
        let key = (kind, viewer.scope.clone());
        if let Some(merged) = self.merged.lock().get(&key).filter(|merged| merged.stamps == stamps) {
            return merged.clone();
        }
        let merged = Arc::new(self.merge(kind, stamps, &lists, viewer));
        let mut all = self.merged.lock();
        if all.len() >= MERGED_MAX {
            all.clear();
        }
        all.insert(key, merged.clone());
        merged
    }

    fn merge(&self, kind: ListKind, stamps: Stamps, lists: &[Option<Arc<List>>], viewer: &Viewer) -> Merged {
        if let Some(other) = other_uris(kind) {
            self.rebuild_uris(kind, lists, other, viewer);
        }
        // Fresh as long as every part is, and not at all while a part is missing (BRIDGE.md 12).
        let untils = lists.iter().filter(|list| list.as_ref().is_none_or(|list| list.stamp != 0));
        let fresh_until = untils.map(|list| list.as_ref()?.fresh_until).min().flatten();
        let mut merged = Merged { stamps, entries: Vec::new(), fresh_until, private: false };
        for (site, list) in lists.iter().enumerate() {
            let Some(list) = list else { continue };
            merged.private |= list.private;
            for item in &list.items {
                match self.issue(kind, site, &item.key, &item.text) {
                    Ok(text) => {
                        let modern_tool = kind == ListKind::Tools && list.era == Era::Modern;
                        let legacy =
                            if modern_tool { translate::schema_to_legacy(&text).map(Into::into) } else { None };
                        merged.entries.push(Entry { text, legacy, site, key: item.key.as_str().into() });
                    }
                    Err(why) => {
                        tracing::warn!(server = self.config.name, list = kind.member(), why, "left out of the list");
                    }
                }
            }
        }
        merged
    }

    /// One item as clients see it.
    fn issue(&self, kind: ListKind, site: usize, key: &str, text: &str) -> Result<Arc<str>, String> {
        if self.single().is_some() {
            return Ok(text.into());
        }
        let issued: Option<String> = match kind {
            ListKind::Tools => Some(self.tools.lock().assign(site, key).map_err(|e| e.to_string())?.to_string()),
            ListKind::Prompts => Some(self.prompts.lock().assign(site, key).map_err(|e| e.to_string())?.to_string()),
            ListKind::Resources | ListKind::Templates => None,
        };
        let table = self.uri_table();
        let map = |uri: &str| {
            let seen =
                if kind == ListKind::Templates { table.issued_template(site, uri) } else { table.issued(site, uri) };
            (seen != uri).then(|| seen.into_owned())
        };
        let mapped = translate::map_item_uris(kind.method().as_str(), text, &map);
        let text = mapped.as_deref().unwrap_or(text);
        let mut splice = Splice::new(text);
        if let Some(issued) = issued.filter(|issued| issued != key) {
            splice.set(text, kind.key(), &json::quote(&issued));
        }
        Ok(splice.finish().into())
    }

    fn rebuild_uris(&self, kind: ListKind, lists: &[Option<Arc<List>>], other: ListKind, viewer: &Viewer) {
        let mut table = UriTable::new(&self.names, self.clash);
        table.inherit(&self.uri_table());
        for (site, list) in lists.iter().enumerate() {
            let others = self.sites[site].last(other, viewer);
            for (kind, list) in [(kind, list.as_ref()), (other, others.as_ref())] {
                for item in list.iter().flat_map(|list| &list.items) {
                    match kind {
                        ListKind::Resources => table.add_resource(site, &item.key),
                        _ => table.add_template(site, &item.key),
                    }
                }
            }
        }
        *self.uris.lock() = Arc::new(table);
    }

    pub(crate) fn uri_table(&self) -> Arc<UriTable> {
        self.uris.lock().clone()
    }

    /// The URI that clients get for one that an upstream uses; none when it stays as it is.
    pub(crate) fn issued_uri(&self, site: usize, uri: &str) -> Option<String> {
        let table = self.uri_table();
        let issued = table.issued(site, uri);
        (issued != uri).then(|| issued.into_owned())
    }

    /// Where a tool's name leads, as far as it is known without asking.
    pub(crate) fn known_tool(&self, name: &str) -> Option<(usize, String)> {
        if self.single().is_some() {
            return Some((0, name.to_owned()));
        }
        self.tools.lock().resolve(name).map(|(site, original)| (site, original.to_owned()))
    }

    /// Where a tool's or prompt's name leads.
    pub(crate) async fn resolve_name(&self, kind: ListKind, name: &str, viewer: &Viewer) -> Option<Target> {
        if self.single().is_some() {
            return Some(Target { site: 0, original: name.to_owned() });
        }
        let table = if kind == ListKind::Tools { &self.tools } else { &self.prompts };
        let known = |name: &str| {
            table.lock().resolve(name).map(|(site, original)| Target { site, original: original.to_owned() })
        };
        if let Some(target) = known(name) {
            return Some(target);
        }
        // A name is issued by listing; this node may not have listed yet.
        self.list(kind, viewer).await;
        known(name)
    }

    /// Where a resource URI leads.
    pub(crate) async fn resolve_uri(&self, uri: &str) -> Option<Target> {
        let known = || self.uri_table().resolve(uri).map(|(site, original)| Target { site, original });
        if let Some(target) = known() {
            return Some(target);
        }
        // What a URI leads to is known by listing; this node may not have listed yet, or not since it changed.
        let public = Viewer::default();
        futures::future::join(self.list(ListKind::Resources, &public), self.list(ListKind::Templates, &public)).await;
        known()
    }

    /// One page of a list, as the `result` of a client of this revision.
    pub(crate) async fn page(
        &self,
        kind: ListKind,
        cursor: Option<&str>,
        version: Version,
        viewer: &Viewer,
    ) -> Result<String, RpcError> {
        let method = kind.method().as_str();
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let text = json::string(cursor).ok_or_else(|| RpcError::invalid_params("cursor must be a string"))?;
                let bad = |_| RpcError::invalid_params("Invalid cursor: start again without one");
                Some(self.cursors.open(&text, method, &self.config.name).map_err(bad)?)
            }
        };
        if let Some(site) = self.single() {
            self.offered(site, kind).await?;
        }
        let merged = self.list(kind, viewer).await;
        if self.single().is_some() && merged.stamps.first().is_none_or(Option::is_none) {
            return Err(RpcError::upstream(true, "the upstream of this server did not give its list; try again later"));
        }
        let from = after.map_or(0, |after| self.resume(&merged, &after));
        let page = &merged.entries[from..merged.entries.len().min(from + self.limits.page_items_max)];
        let text = |entry: &'_ Entry| match (&entry.legacy, version.era()) {
            (Some(legacy), Era::Legacy) => legacy.clone(),
            _ => entry.text.clone(),
        };
        let items: Vec<Arc<str>> = page.iter().map(text).collect();
        let mut result = format!("{{\"{}\":[{}]", kind.member(), items.join(","));
        if from + page.len() < merged.entries.len()
            && let Some(last) = page.last()
        {
            let position = Position {
                list: method.to_owned(),
                server: self.config.name.clone(),
                upstream: self.names[last.site].clone(),
                after: last.key.to_string(),
                ordinal: (from + page.len()) as u64,
            };
            result.push_str(&format!(",\"nextCursor\":{}", json::quote(&self.cursors.seal(&position))));
        }
        if version.era() == Era::Modern {
            let left = merged.fresh_until.map(|until| until.saturating_duration_since(Instant::now()));
            let ttl_ms = left.map_or(0, |left| u64::try_from(left.as_millis()).unwrap_or(0));
            let scope = if merged.private { "private" } else { "public" };
            result.push_str(&format!(r#","resultType":"complete","ttlMs":{ttl_ms},"cacheScope":"{scope}""#));
        }
        result.push('}');
        Ok(result)
    }

    /// One upstream alone is not silently left out: that it is down, or has no such list, is an error.
    async fn offered(&self, site: &Arc<Site>, kind: ListKind) -> Result<(), RpcError> {
        let wait = Duration::from_millis(self.limits.list_wait_ms);
        let down = |_| RpcError::upstream(true, "the upstream of this server is down; try again later");
        let up = site.wait_up(wait).await.map_err(down)?;
        if up.profile.declares(&[kind.capability()]) {
            return Ok(());
        }
        Err(RpcError::method_not_found(kind.method().as_str()))
    }

    /// The index after the item that a cursor names; its ordinal when that item is gone.
    fn resume(&self, merged: &Merged, after: &Position) -> usize {
        let found = merged.entries.iter().position(|entry| {
            *entry.key == *after.after && self.names.get(entry.site).is_some_and(|name| *name == after.upstream)
        });
        let ordinal = usize::try_from(after.ordinal).unwrap_or(usize::MAX);
        found.map_or(ordinal, |at| at + 1).min(merged.entries.len())
    }

    /// The `result` of `server/discover`.
    pub(crate) async fn discover(&self) -> String {
        let capabilities = self.capabilities(Era::Modern).await;
        let instructions = self.instructions().map(|text| format!(",\"instructions\":{text}")).unwrap_or_default();
        format!(
            r#"{{"resultType":"complete","supportedVersions":["{}"],"capabilities":{capabilities}{instructions},"ttlMs":0,"cacheScope":"public","_meta":{{"{}":{IMPLEMENTATION}}}}}"#,
            Version::MODERN,
            enfilade_mcp::meta::SERVER_INFO,
        )
    }
}

/// The other of the two lists that name URIs.
fn other_uris(kind: ListKind) -> Option<ListKind> {
    match kind {
        ListKind::Resources => Some(ListKind::Templates),
        ListKind::Templates => Some(ListKind::Resources),
        ListKind::Tools | ListKind::Prompts => None,
    }
}

/// The name of the tasks extension.
pub(crate) const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Capabilities of one upstream for a client of `era`.
fn mirror(profile: &Profile, era: Era) -> String {
    let text = profile.capabilities.as_str();
    let mut splice = Splice::new(text);
    match (profile.era, era) {
        (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Modern) => return text.to_owned(),
        // Tasks of one era are not translated to the other; each era declares its own in its own way.
        (Era::Legacy, Era::Modern) => splice.remove(text, &["tasks"]),
        (Era::Modern, Era::Legacy) => splice.remove(text, &["tasks", "extensions"]),
    };
    splice.finish()
}
